"""Compile the kernels with nothing but compilers and the installed torch's headers.

``MMVIM_BUILD`` says what: ``auto`` (what can be built, the default), ``cpu`` (the C++ kernels, or fail), ``cuda``
(both, or fail) or ``none``.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from kernels.build_cuda import build_cuda
from kernels.toolchain import (
    KERNEL_FLAGS,
    KERNELS,
    STABLE_INTERFACE,
    BuildError,
    check_platform,
    compile_all,
    find_compiler,
    find_torch,
    link,
)

COMPILE_FLAGS = [*KERNEL_FLAGS, STABLE_INTERFACE]
LINK_FLAGS = ['-shared', '-ltorch_cpu', '-Wl,-z,defs']


def requested() -> str:
    """The value of ``MMVIM_BUILD``.

    Raises:
        SystemExit: The variable has another value than ``'auto'``, ``'cpu'``, ``'cuda'`` and ``'none'``.
    """
    value = os.environ.get('MMVIM_BUILD', 'auto')
    if value not in ('auto', 'cpu', 'cuda', 'none'):
        raise SystemExit(f'mmvim: MMVIM_BUILD must be auto, cpu, cuda or none, got {value!r}')
    return value


def build_cpu(target: Path) -> None:
    """Compile the C++ kernels into ``target``, a shared object for ``torch.ops.load_library``.

    Raises:
        BuildError: This machine, torch or compiler cannot do it.
    """
    check_platform()
    torch = find_torch()
    compiler = find_compiler()
    sources = [*sorted(KERNELS.glob('cpu/*.cpp')), KERNELS / 'binding' / 'stable_cpu.cpp']
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mmvim-kernels-') as scratch:
        objects = {source: Path(scratch) / f'{source.stem}.o' for source in sources}
        flags = [*COMPILE_FLAGS, f'-I{KERNELS}', f'-I{torch.include}']
        print(f'mmvim: compiling {len(sources)} C++ files with {shlex.join(compiler)}', flush=True)
        compile_all({source: [*compiler, *flags, '-c', str(source), '-o', str(out)] for source, out in objects.items()})
        link([*compiler, *map(str, objects.values()), f'-L{torch.libraries}', *LINK_FLAGS], target)


class Library(NamedTuple):
    """A library of kernels.

    Attributes:
        module: Its name inside the package.
        kernels: What is in it.
        build: Builds it.
        demanded_by: Values of MMVIM_BUILD that make its absence an error.
        consequence: What its absence means.
    """

    module: str
    kernels: str
    build: Callable[[Path], None]
    demanded_by: tuple[str, ...]
    consequence: str


LIBRARIES = (
    Library('_C', 'C++ kernels', build_cpu, ('cpu', 'cuda'), 'mmvim runs on its slower PyTorch path'),
    Library('_C_cuda', 'CUDA kernels', build_cuda, ('cuda',), 'CUDA tensors take the slower PyTorch path'),
)


def build_or_explain(library: Library, target: Path) -> str:
    """Build what ``MMVIM_BUILD`` asks for.

    Args:
        library: Which one.
        target: The shared object to write; an older one is removed first, so that none outlives its sources.

    Returns:
        Empty, or the line that says why there are no kernels.

    Raises:
        BuildError: They were asked for explicitly and cannot be built.
    """
    target.unlink(missing_ok=True)
    choice = requested()
    if choice != 'auto' and choice not in library.demanded_by:
        return ''
    try:
        library.build(target)
    except BuildError as error:
        if choice != 'auto':
            raise
        return f'mmvim: the {library.kernels} are not built, {library.consequence}: {error}'
    return ''


def main() -> None:
    """Build the libraries of this checkout in their place."""
    for library in LIBRARIES:
        target = KERNELS.parent / 'mmvim' / f'{library.module}.abi3.so'
        line = build_or_explain(library, target)
        if line or target.exists():
            print(line or f'mmvim: the {library.kernels} are built')


if __name__ == '__main__':
    try:
        main()
    except BuildError as problem:
        raise SystemExit(f'mmvim: {problem}') from None
