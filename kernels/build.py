"""Compile the C++ kernels with nothing but a compiler and the installed torch's headers.

torch is found and read, never imported, downloaded or replaced: pip builds a package in an environment of its own,
where the torch of the target environment is hidden, so the target's interpreter is asked where it is.
"""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 10)  # the first with the stable interface that one library for all later releases needs
# No -march=native and no -ffast-math (kernels/README.md): the instruction set is chosen at run time, NaN stays NaN.
COMPILE_FLAGS = ['-std=c++20', '-O3', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast', '-fPIC']
COMPILE_FLAGS += ['-fvisibility=hidden', '-DTORCH_TARGET_VERSION=0x020a000000000000']
LINK_FLAGS = ['-shared', '-ltorch_cpu', '-Wl,-z,defs']


class BuildError(RuntimeError):
    """The kernels cannot be built here; the message is one line."""


def requested() -> str:
    """The value of ``MMVIM_BUILD``.

    Returns:
        str: ``'auto'`` (try, go on without), ``'cpu'`` (build or fail), ``'cuda'`` or ``'none'``.

    Raises:
        SystemExit: The variable has another value.
    """
    value = os.environ.get('MMVIM_BUILD', 'auto')
    if value not in ('auto', 'cpu', 'cuda', 'none'):
        raise SystemExit(f'mmvim: MMVIM_BUILD must be auto, cpu, cuda or none, got {value!r}')
    return value


def build_or_explain(target: Path) -> str:
    """Build what ``MMVIM_BUILD`` asks for.

    Args:
        target (Path): The shared object to write; an older one is removed first, so that none outlives its sources.

    Returns:
        str: Empty, or the line that says why there are no kernels.

    Raises:
        BuildError: They were asked for explicitly and cannot be built.
    """
    target.unlink(missing_ok=True)
    if requested() == 'none':
        return ''
    try:
        build_kernels(target)
    except BuildError as error:
        if requested() != 'auto':
            raise
        return f'mmvim: the C++ kernels are not built, mmvim runs on its slower PyTorch path: {error}'
    return ''


def find_torch() -> Path:
    """Folder of the torch that the target environment has.

    Raises:
        BuildError: There is none, or it is too old for the kernels.
    """
    spec = importlib.util.find_spec('torch')
    if spec is not None:
        folder = Path(spec.origin).parent
    else:
        # -E drops the PYTHONPATH by which pip hides the environment's own packages.
        command = 'import importlib.util; spec = importlib.util.find_spec("torch"); print(spec.origin if spec else "")'
        answer = subprocess.run([sys.executable, '-E', '-c', command], cwd=sys.prefix, capture_output=True, text=True)
        origin = answer.stdout.strip()
        if not origin:
            raise BuildError(
                'no torch is installed for this Python; install torch first, then mmvim '
                '(with a tool that builds in a virtual environment of its own, such as uv: --no-build-isolation)'
            )
        folder = Path(origin).parent
    version = re.search(r"__version__ = '((\d+)\.(\d+)[^']*)'", (folder / 'version.py').read_text())
    if version is None or tuple(map(int, version.groups()[1:])) < OLDEST_TORCH:
        found = version.group(1) if version else 'of an unknown version'
        raise BuildError(f'they need torch 2.10 or later, torch {found} is installed')
    return folder


def find_compiler() -> list[str]:
    """The C++ compiler as a command line: ``CXX``, or the first of c++, g++, clang++.

    Raises:
        BuildError: There is none.
    """
    if os.environ.get('CXX'):
        return shlex.split(os.environ['CXX'])
    found = next(filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None)
    if found is None:
        raise BuildError('no C++ compiler was found; install g++ (apt-get install g++), or set CXX')
    return [found]


def build_kernels(target: Path) -> None:
    """Compile every source and link them into ``target``, a shared object for ``torch.ops.load_library``.

    Args:
        target (Path): The file to write. It appears whole or not at all.

    Raises:
        BuildError: This machine, torch or compiler cannot do it, or ``MMVIM_BUILD=cuda`` asks for what is not there.
    """
    if requested() == 'cuda':
        raise BuildError('MMVIM_BUILD=cuda: this version has no CUDA kernels; use MMVIM_BUILD=cpu')
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        raise BuildError(f'they are made for Linux on x86-64, this is {platform.system()} on {platform.machine()}')
    torch = find_torch()
    compiler = find_compiler()
    sources = sorted([*KERNELS.glob('cpu/*.cpp'), *KERNELS.glob('binding/*.cpp')])
    if not sources:
        raise BuildError(f'there is no source in {KERNELS}')
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mmvim-kernels-') as scratch:
        objects = [Path(scratch) / f'{source.parent.name}_{source.stem}.o' for source in sources]
        include = [f'-I{KERNELS}', f'-I{torch / "include"}']

        def compile_one(source: Path, out: Path) -> None:
            _run([*compiler, *COMPILE_FLAGS, *include, '-c', str(source), '-o', str(out)])
            print(f'mmvim: compiled {source.relative_to(KERNELS.parent)}', flush=True)

        print(f'mmvim: compiling {len(sources)} C++ files with {shlex.join(compiler)}', flush=True)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(compile_one, sources, objects))
        library = target.with_name(f'{target.name}.{os.getpid()}')
        try:
            _run([*compiler, *map(str, objects), f'-L{torch / "lib"}', *LINK_FLAGS, '-o', str(library)])
            library.replace(target)
        finally:
            library.unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f'the compiler {command[0]} cannot be run ({error.strerror})') from None
    if result.returncode:
        print(shlex.join(command), result.stdout + result.stderr, sep='\n', flush=True)
        lines = (result.stderr or result.stdout).splitlines()
        first = next((line for line in lines if 'error' in line), next(iter(lines), 'it says nothing'))
        raise BuildError(f'{command[0]} failed ({first.strip()}); MMVIM_BUILD=cpu pip install -v . shows it all')


if __name__ == '__main__':
    try:
        print(build_or_explain(KERNELS.parent / 'mmvim' / '_C.abi3.so') or 'mmvim: the C++ kernels are built')
    except BuildError as problem:
        raise SystemExit(f'mmvim: {problem}') from None
