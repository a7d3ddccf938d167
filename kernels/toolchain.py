"""What builds of the kernels share: the installed torch, a compiler, running it, and putting a library in its place.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 10)  # the first with the stable interface that one library for all later releases needs
# No -march=native and no -ffast-math (kernels/README.md): the instruction set is chosen at run time, NaN stays NaN.
KERNEL_FLAGS = ['-std=c++20', '-O3', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast', '-fPIC']
KERNEL_FLAGS += ['-fvisibility=hidden']
STABLE_INTERFACE = '-DTORCH_TARGET_VERSION=0x020a000000000000'


class BuildError(RuntimeError):
    """The kernels cannot be built here; the message is one line."""


class Torch(NamedTuple):
    """The installed torch.

    Attributes:
        folder: The package.
        version: Such as ``'2.13.0+cpu'``.
        cuda: Version of CUDA that it was built with, ``''`` for none.
    """

    folder: Path
    version: str
    cuda: str

    @property
    def include(self) -> Path:
        return self.folder / 'include'

    @property
    def libraries(self) -> Path:
        return self.folder / 'lib'


def find_torch() -> Torch:
    """The torch that the target environment has.

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
    text = (folder / 'version.py').read_text()
    version = re.search(r"__version__ = '((\d+)\.(\d+)[^']*)'", text)
    if version is None or tuple(map(int, version.groups()[1:])) < OLDEST_TORCH:
        found = version.group(1) if version else 'of an unknown version'
        raise BuildError(f'they need torch 2.10 or later, torch {found} is installed')
    cuda = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
    return Torch(folder, version.group(1), cuda.group(1) if cuda else '')


def check_platform() -> None:
    """Raises BuildError where the kernels are not made for the machine."""
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        raise BuildError(f'they are made for Linux on x86-64, this is {platform.system()} on {platform.machine()}')


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


def compile_all(commands: dict[Path, list[str]]) -> dict[Path, str]:
    """Run one compiler command per source, as many at once as there are processors.

    Returns:
        What the compiler said about each source.

    Raises:
        BuildError: The compiler cannot be run, or refuses a source.
    """

    def compile_one(source: Path) -> str:
        output = run(commands[source])
        print(f'mmvim: compiled {source.relative_to(KERNELS.parent)}', flush=True)
        return output

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(commands, pool.map(compile_one, commands), strict=True))


def link(command: list[str], target: Path) -> None:
    """Run a linker's command, but for its output, such that ``target`` appears whole or not at all."""
    library = target.with_name(f'{target.name}.{os.getpid()}')
    try:
        run([*command, '-o', str(library)])
        library.replace(target)
    finally:
        library.unlink(missing_ok=True)


def run(command: list[str]) -> str:
    """Run a compiler; returns what it said.

    Raises:
        BuildError: It cannot be run or fails. All that it said is printed, the message holds the first error.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f'the compiler {command[0]} cannot be run ({error.strerror})') from None
    if result.returncode:
        print(shlex.join(command), result.stdout + result.stderr, sep='\n', flush=True)
        lines = (result.stderr or result.stdout).splitlines()
        first = next((line for line in lines if 'error' in line), next(iter(lines), 'it says nothing'))
        raise BuildError(f'{command[0]} failed ({first.strip()}); python kernels/build.py shows it all')
    return result.stdout + result.stderr
