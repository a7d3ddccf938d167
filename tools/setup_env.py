"""Prepare the environment of a checkout, ``.venv``, for one goal of the Makefile.

    python3 tools/setup_env.py lint|docs|demo|demo-det|demo-clip|web|ops|test

Every step that is done is remembered in ``.venv/mmvim-setup.json`` and done again only when what it depends on has
changed. A step that was interrupted is found out by the next call, which then starts the environment anew.
Only the standard library is used: nothing is installed yet when this runs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
ELSEWHERE = VENV / 'elsewhere'
STATE = VENV / 'mmvim-setup.json'
CONSTRAINTS = ROOT / 'constraints.txt'
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
OLDEST_TORCH = (2, 4)
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


class SetupError(RuntimeError):
    """The set-up cannot go on; the message says what to do."""


def say(text: str) -> None:
    """Print a line of progress."""
    print(f'[set-up] {text}', flush=True)


def run(*command: object, **variables: str) -> None:
    """Run a command in the checkout with additional environment variables, its output shown."""
    arguments = [str(word) for word in command]
    if subprocess.run(arguments, cwd=ROOT, env={**os.environ, **variables}).returncode:
        raise SetupError(f'this failed, see above: {" ".join(arguments)}')


def pip(*arguments: object, **variables: str) -> None:
    """Run the environment's pip."""
    run(VENV / 'bin' / 'python', '-m', 'pip', '--disable-pip-version-check', *arguments, **variables)


def digest(*files: Path) -> str:
    """One fingerprint of the contents of some files."""
    return hashlib.sha256(b'\0'.join(path.read_bytes() for path in files)).hexdigest()


def pinned(name: str) -> str:
    """The requirement ``name==version`` that the constraints file pins."""
    return re.search(rf'^{re.escape(name)}==\S+$', CONSTRAINTS.read_text(), re.MULTILINE).group()


class State:
    """Which steps are done, and on what they were based; kept in a file that is written whole or not at all."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = json.loads(STATE.read_text()) if STATE.exists() else {}

    def __setitem__(self, key: str, value: str) -> None:
        self.entries[key] = value
        self._write()

    def __delitem__(self, key: str) -> None:
        self.entries.pop(key, None)
        self._write()

    def _write(self) -> None:
        unfinished = STATE.with_suffix('.tmp')
        unfinished.write_text(json.dumps(self.entries, indent=1))
        unfinished.replace(STATE)

    def step(self, name: str, basis: str, work: Callable[[], None]) -> None:
        """Change the environment by ``work`` unless the step ``name`` is done on the same ``basis``."""
        if self.entries.get(name) != basis:
            self['interrupted'] = name
            work()
            del self['interrupted']
            self[name] = basis


def check_python() -> None:
    """Refuse a Python that mmvim does not support, naming one that it does."""
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        others = [f'python3.{minor}' for minor in (11, 12, 13, 10) if shutil.which(f'python3.{minor}')]
        raise SetupError(
            f'mmvim needs Python 3.10 to 3.13, {sys.executable} is {platform.python_version()}; '
            f'type: make PYTHON={others[0] if others else "/path/to/python3.11"} ...'
        )


def venv_tag() -> str:
    """Python of the environment as in the names of wheels, such as cp311; empty if there is no usable environment."""
    python = VENV / 'bin' / 'python'
    command = [python, '-c', 'import pip, sys; print("cp%d%d" % sys.version_info[:2])']
    result = subprocess.run(command, capture_output=True, text=True) if python.exists() else None
    return result.stdout.strip() if result and not result.returncode else ''


def make_venv() -> State:
    """The environment itself: kept, made, or made anew after an interruption or for another Python."""
    wanted = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    tag = venv_tag()
    if tag:
        state = State()
        interrupted = state.entries.get('interrupted')
        if state.entries.get('made') != 'here' or (tag == wanted and not interrupted):
            return state  # what somebody else made is never removed
        reason = f'the step "{interrupted}" did not finish' if interrupted else f'it is for {tag}, not {wanted}'
        say(f'{reason}: .venv is made anew')
    say(f'making .venv with Python {platform.python_version()}')
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    state = State()
    state['made'] = 'here'
    state.step('venv', wanted, create_venv)
    return state


def create_venv() -> None:
    """A virtual environment with pip."""
    try:
        run(sys.executable, '-m', 'venv', VENV)
    except SetupError:
        raise SetupError(
            'python -m venv failed, see above; on Debian and Ubuntu: apt-get install python3-venv'
        ) from None
    if Path(sys.prefix) != VENV:
        lend_torch()


def lend_torch() -> None:
    """Let the environment see the packages of the Python at hand if a usable torch is among them."""
    spec = importlib.util.find_spec('torch')
    if spec is None or spec.origin is None:
        return
    found = re.search(r"__version__ = '((\d+)\.(\d+)[^']*)'", (Path(spec.origin).parent / 'version.py').read_text())
    if found and tuple(map(int, found.groups()[1:])) >= OLDEST_TORCH:
        say(f'torch {found.group(1)} of {sys.executable} is used')
        folders = [folder for folder in [*site.getsitepackages(), site.getusersitepackages()] if os.path.isdir(folder)]
        packages = Path(sysconfig.get_path('purelib', vars={'base': str(VENV), 'platbase': str(VENV)}))
        (packages / 'lent-by-the-base-python.pth').write_text('\n'.join(folders) + '\n')


def torch_version() -> str | None:
    """The version of the torch that the environment imports, None if there is none."""
    code = 'import torch, importlib.metadata; importlib.metadata.version("torch"); print(torch.__version__)'
    command = [VENV / 'bin' / 'python', '-c', code]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() if not result.returncode else None


def install_torch() -> None:
    """Keep a torch that is there; otherwise install the tested one, its size said first."""
    version = torch_version()
    if version:
        if tuple(map(int, version.split('.')[:2])) < OLDEST_TORCH:
            raise SetupError(
                f'torch {version} in .venv is too old, mmvim needs 2.4 or later; remove .venv and run this again'
            )
        say(f'torch {version} is installed already and stays')
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.json'
        pip('install', '--quiet', '--dry-run', '--report', report, '-c', CONSTRAINTS, pinned('torch'))
        names = [item['metadata']['name'] for item in json.loads(report.read_text())['install']]
    if any(name.startswith(('nvidia', 'cuda', 'triton')) for name in names):
        say('downloading torch for CUDA: about 3 GB, 7 GB on disk. Without a GPU the CPU build (200 MB) is enough:')
        say("    install it into .venv from the index that PyTorch's own page names for it, then run this again")
    else:
        say('downloading torch for the CPU: about 200 MB, 750 MB on disk')
    pip('install', '-c', CONSTRAINTS, pinned('torch'))


def constraints_with(torch: str) -> Path:
    """The constraints file with torch held at the version that is installed, so that nothing replaces it."""
    path = VENV / 'mmvim-constraints.txt'
    text = re.sub(r'^torch==.*$', f'torch=={torch}', CONSTRAINTS.read_text(), flags=re.MULTILINE)
    if torch.partition('+')[0] != pinned('torch').split('==')[1]:
        text = re.sub(r'^torchvision==.*\n', '', text, flags=re.MULTILINE)  # which belongs to one torch
    path.write_text(text)
    return path


def install_mmcv(ops_wheel: Path | None) -> None:
    """mmcv with the compiled ops of ``ops_wheel``, or else without ops.

    Never through pip's cache: pip keeps one wheel per source archive, compiled or not and against whichever torch.
    """
    say(f'installing mmcv {"with" if ops_wheel else "without"} compiled ops')
    pip('install', '--no-deps', '--no-cache-dir', '--force-reinstall', ops_wheel or pinned('onedl-mmcv'))


def ops_folder(torch: str) -> Path:
    """Where the wheel of mmcv with compiled ops is kept between checkouts, one folder for each torch and Python."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'mmvim' / 'wheels' / f'torch-{torch}-{venv_tag()}'


def find_ops_wheel(torch: str) -> Path | None:
    """The wheel of mmcv with compiled ops for this torch, if it was compiled before."""
    version = pinned('onedl-mmcv').split('==')[1]
    return next(ops_folder(torch).glob(f'onedl_mmcv-{version}-*.whl'), None)


def compile_ops(torch: str, constraints: Path) -> Path:
    """Compile mmcv's ops against the installed torch into the folder of wheels."""
    cores = os.cpu_count() or 1
    say(f'compiling the ops of mmcv (Mask R-CNN needs them) against torch {torch}: once, then kept')
    say(f'    in {ops_folder(torch)}')
    say(f'    on {cores} cores; 12 to 23 minutes on 2 cores')
    pip('install', '--quiet', '-c', constraints, 'setuptools', 'wheel', 'ninja', 'packaging', 'psutil')
    folder = ops_folder(torch)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='unfinished-', dir=folder.parent) as scratch:
        build = [VENV / 'bin' / 'python', '-m', 'pip', 'wheel', '-v', '--no-build-isolation', '--no-deps']
        build += ['--no-cache-dir', '-w', scratch, pinned('onedl-mmcv')]
        environment = dict(os.environ, PATH=f'{VENV / "bin"}:{os.environ["PATH"]}', MMCV_WITH_OPS='1')
        follow_compiler([str(word) for word in build], environment, folder.parent / 'mmcv-build.log')
        wheel = next(Path(scratch).glob('*.whl'))
        if 'none-any' in wheel.name:
            raise SetupError(f'mmcv was built without ops; the reason is in {folder.parent / "mmcv-build.log"}')
        folder.mkdir(exist_ok=True)
        return wheel.replace(folder / wheel.name)


def follow_compiler(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run a build, its output in ``log``, and show how many of its objects are done."""
    start = time.monotonic()
    with (
        log.open('w') as file,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as build,
    ):
        for line in build.stdout:
            file.write(line)
            count = re.match(r'\s*\[(\d+)/(\d+)\] ', line)
            if count:
                minutes = (time.monotonic() - start) / 60
                end = '\r' if sys.stdout.isatty() and count[1] != count[2] else '\n'
                print(f'[set-up]     {count[1]}/{count[2]} objects, {minutes:.1f} min', end=end, flush=True)
    if build.returncode:
        raise SetupError(f"mmcv's ops do not compile here (a C++ compiler is needed: apt-get install g++); see {log}")


def install_package(extra: str, constraints: Path) -> None:
    """mmvim itself, editable, and what the tests or the demo need; the kernels have a step of their own."""
    say(f'installing mmvim[{extra}] at the tested versions: about {300 if extra == "test" else 200} MB')
    pip('install', '--quiet', '-c', constraints, 'setuptools')
    pip('install', '-c', constraints, '--no-build-isolation', '-e', f'.[{extra}]', MMVIM_BUILD='none')


def install_elsewhere(constraints: Path) -> None:
    """What ``mmvim.timm`` is tested with, in an environment on top of the other one, which does not see it.

    mmengine and mmdet import transformers wherever they see it, and mmseg timm: seconds in every process. And a
    torchvision that was not built for this torch would stop all three.
    """
    say('installing timm, segmentation_models.pytorch and transformers, apart: 40 MB to download, 230 MB on the disk')
    run(VENV / 'bin' / 'python', '-m', 'venv', '--without-pip', '--clear', ELSEWHERE)
    below, above = (
        Path(sysconfig.get_path('purelib', vars={'base': str(base), 'platbase': str(base)}))
        for base in (VENV, ELSEWHERE)
    )
    (above / 'on-top-of-the-other.pth').write_text(f'import site; site.addsitedir({str(below)!r})\n')
    packages = [pinned(name) for name in ('timm', 'segmentation-models-pytorch', 'transformers')]
    pip('--python', ELSEWHERE / 'bin' / 'python', 'install', '-c', constraints, *packages)


def install_chromium() -> None:
    """The browser in which the page of ``make web`` is tested, unless there is one: Debian's, where that can be done.

    Where it cannot, the other tests run all the same.
    """
    if any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() or not shutil.which('apt-get'):
        say('tests/test_web needs Chromium: as root on Debian, apt-get install chromium; elsewhere one of')
        say(f'    {", ".join(BROWSERS)} on the PATH. Without it these tests fail.')
        return
    say("installing Debian's Chromium, in which the page is tested: about 100 MB, 400 MB on disk")
    run('apt-get', 'update', '-qq')
    run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'chromium', DEBIAN_FRONTEND='noninteractive')


def prepare(goal: str) -> None:
    """Do what ``goal`` needs and has not been done."""
    check_python()
    state = make_venv()
    if goal == 'lint':
        state.step('lint', pinned('ruff'), lambda: pip('install', '--quiet', pinned('ruff')))
        return
    if goal == 'docs':
        pins = [pinned('sphinx'), pinned('myst-parser')]
        state.step('docs', ' '.join(pins), lambda: pip('install', '--quiet', *pins))
        return

    state.step('torch', sys.executable, install_torch)
    torch = state.entries.get('torch version') or torch_version()
    state['torch version'] = torch
    constraints = constraints_with(torch)

    wheel = find_ops_wheel(torch)
    if wheel is None and goal in ('ops', 'demo-det', 'test'):
        wheel = compile_ops(torch, constraints)
    if wheel or 'mmcv' not in state.entries:
        state.step('mmcv', str(wheel), lambda: install_mmcv(wheel))

    page = f'{"det," if wheel else ""}seg,large,web'  # detectors need the ops, which are not compiled for the page
    extra = {'test': 'test', 'demo-det': 'det', 'demo-clip': 'onedl,pretrain', 'web': page}.get(goal, 'seg')
    if 'package [test]' in state.entries:
        extra = 'test'
    package = digest(CONSTRAINTS, ROOT / 'pyproject.toml', ROOT / 'setup.py')
    state.step(f'package [{extra}]', package, lambda: install_package(extra, constraints))

    if goal == 'test':
        basis = f'{torch} {digest(CONSTRAINTS)}'
        state.step('elsewhere', basis, lambda: install_elsewhere(constraints))
        install_chromium()

    sources = digest(*(path for path in sorted(ROOT.glob('kernels/**/*')) if path.is_file() and path.suffix != '.pyc'))
    wanted = f'{os.environ.get("MMVIM_BUILD", "auto")} {os.environ.get("CXX", "")} {sources}'
    if state.entries.get('kernels') != wanted or not (ROOT / 'mmvim' / '_C.abi3.so').exists():
        run(VENV / 'bin' / 'python', ROOT / 'kernels' / 'build.py')
        state['kernels'] = wanted


def main() -> int:
    """Prepare the environment for the goal on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('goal', choices=['lint', 'docs', 'demo', 'demo-det', 'demo-clip', 'web', 'ops', 'test'])
    try:
        prepare(parser.parse_args().goal)
    except SetupError as error:
        print(f'[set-up] {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\n[set-up] interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
