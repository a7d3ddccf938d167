"""Compile the CUDA kernels: nvcc, and a torch that is built for CUDA of the same major version. No GPU is asked for.

``CUDA_HOME`` says where nvcc is, ``TORCH_CUDA_ARCH_LIST`` for which architectures to compile.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from kernels.toolchain import (
    KERNELS,
    STABLE_INTERFACE,
    BuildError,
    Torch,
    check_platform,
    compile_all,
    find_compiler,
    find_torch,
    link,
    run,
)

# Turing to Blackwell: what is compiled for unless TORCH_CUDA_ARCH_LIST says otherwise, as far as nvcc knows it.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# Names that TORCH_CUDA_ARCH_LIST may hold besides numbers.
FAMILIES = {
    'Turing': '7.5+PTX',
    'Ampere': '8.0;8.6+PTX',
    'Ada': '8.9+PTX',
    'Hopper': '9.0+PTX',
    'Blackwell': '10.0;12.0+PTX',
}
COMPILE_FLAGS = ['-std=c++20', '-O3', '-Xcompiler', '-fPIC,-fvisibility=hidden', f'-I{KERNELS}']


class Toolkit(NamedTuple):
    """An installed nvcc.

    Attributes:
        nvcc: The command.
        version: Such as ``'13.0'``.
        known: Architectures that it compiles for, 75 for 7.5.
    """

    nvcc: str
    version: str
    known: tuple[int, ...]


class Architectures(NamedTuple):
    """What to compile for: machine code, and PTX that later cards translate; ``'90'`` or, with a suffix, ``'90a'``."""

    machine: tuple[str, ...]
    ptx: tuple[str, ...]

    def flags(self) -> list[str]:
        """nvcc's options."""
        machine = [f'-gencode=arch=compute_{name},code=sm_{name}' for name in self.machine]
        return [*machine, *(f'-gencode=arch=compute_{name},code=compute_{name}' for name in self.ptx)]

    def __str__(self) -> str:
        return ', '.join([*(f'sm_{name}' for name in self.machine), *(f'compute_{name} (PTX)' for name in self.ptx)])


def find_toolkit() -> Toolkit:
    """The nvcc of ``CUDA_HOME``, of the ``PATH`` or of /usr/local/cuda, in this order.

    Raises:
        BuildError: There is none, or it does not run.
    """
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    if home:
        nvcc = Path(home) / 'bin' / 'nvcc'
        if not nvcc.exists():
            raise BuildError(f'there is no nvcc in CUDA_HOME={home}')
    else:
        nvcc = Path(shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc')
        if not nvcc.exists():
            raise BuildError('no nvcc was found; install the CUDA toolkit, or set CUDA_HOME to where it is')
    version = re.search(r'release (\d+\.\d+)', run([str(nvcc), '--version']))
    known = re.findall(r'compute_(\d+)\b', run([str(nvcc), '--list-gpu-arch']))
    if version is None or not known:
        raise BuildError(f'{nvcc} does not say its version and architectures')
    return Toolkit(str(nvcc), version.group(1), tuple(map(int, known)))


def check_versions(torch: Torch, toolkit: Toolkit) -> None:
    """Raises BuildError unless torch and nvcc are of one major version of CUDA."""
    if not torch.cuda:
        raise BuildError(f'torch {torch.version} is not built for CUDA')
    if torch.cuda.split('.')[0] != toolkit.version.split('.')[0]:
        raise BuildError(
            f'torch {torch.version} is built for CUDA {torch.cuda}, {toolkit.nvcc} is of CUDA {toolkit.version}; '
            f'set CUDA_HOME to a toolkit of CUDA {torch.cuda.split(".")[0]}'
        )


def choose_architectures(asked: str, toolkit: Toolkit) -> Architectures:
    """What to compile for.

    Args:
        asked: In the form of ``TORCH_CUDA_ARCH_LIST``: numbers such as ``'8.0'``, ``'9.0a'`` or ``'9.0+PTX'``, or names
            of families, separated by semicolons, commas or spaces. Empty for all of :data:`ARCHITECTURES`.
        toolkit: Decides what is possible.

    Raises:
        BuildError: The list is not understood, or asks for what nvcc or the kernels do not do.
    """
    if not asked.strip():
        possible = tuple(str(number) for number in ARCHITECTURES if number in toolkit.known)
        if not possible:
            raise BuildError(f'nvcc {toolkit.version} knows none of the architectures from 7.5 to 12.0')
        return Architectures(possible, possible[-1:])
    for family, members in FAMILIES.items():
        asked = re.sub(rf'\b{family}\b', members, asked)
    machine, ptx = [], []
    for entry in filter(None, re.split(r'[;,\s]+', asked)):
        match = re.fullmatch(r'(\d+)\.(\d)([af]?)(\+PTX)?', entry)
        if match is None:
            raise BuildError(f"TORCH_CUDA_ARCH_LIST: {entry!r} is not understood; write '8.0;9.0+PTX', for instance")
        number = int(match[1] + match[2])
        if number < ARCHITECTURES[0] or number not in toolkit.known:
            known = ', '.join(f'{n // 10}.{n % 10}' for n in sorted(toolkit.known) if n >= ARCHITECTURES[0])
            raise BuildError(
                f'TORCH_CUDA_ARCH_LIST asks for {entry}; '
                f'with nvcc {toolkit.version} the kernels can be built for {known}'
            )
        machine.append(f'{number}{match[3]}')
        if match[4]:
            ptx.append(machine[-1])
    return Architectures(tuple(dict.fromkeys(machine)), tuple(dict.fromkeys(ptx)))


def compile_cuda(
    target: Path, torch: Torch, toolkit: Toolkit, architectures: Architectures, flags: tuple[str, ...] = ()
) -> dict[Path, str]:
    """Compile every source and link them into ``target``, a shared object for ``torch.ops.load_library``.

    torch need not be a CUDA build: then one symbol of its CUDA library stays open, and the result cannot be loaded.

    Args:
        flags: Further options of nvcc.

    Returns:
        What nvcc said about each source.

    Raises:
        BuildError: nvcc refuses.
    """
    binding = KERNELS / 'binding' / 'stable_cuda.cpp'
    sources = [*sorted(KERNELS.glob('cuda/*.cu')), binding]
    host = ['-ccbin', find_compiler()[-1]] if os.environ.get('CXX') else []  # else nvcc knows its compiler
    nvcc = [toolkit.nvcc, *host, *COMPILE_FLAGS, *flags]
    with tempfile.TemporaryDirectory(prefix='mmvim-kernels-') as scratch:
        objects = {source: Path(scratch) / f'{source.stem}.o' for source in sources}
        commands = {source: [*nvcc, *architectures.flags(), '-c', str(source)] for source in sources[:-1]}
        # No code for a device in here; torch's headers are C++ for the host.
        commands[binding] = [*nvcc, '-x', 'cu', f'-arch=sm_{architectures.machine[0]}', '-c', str(binding)]
        commands[binding] += ['-isystem', str(torch.include), '-DUSE_CUDA', STABLE_INTERFACE]
        commands[binding] += [f'-DMMVIM_CUDA_ARCHITECTURES="{architectures}"']
        print(f'mmvim: compiling {len(sources)} CUDA files for {architectures} with {toolkit.nvcc}', flush=True)
        said = compile_all({source: [*command, '-o', str(objects[source])] for source, command in commands.items()})
        target.parent.mkdir(parents=True, exist_ok=True)
        libraries = [f'-L{torch.libraries}', '-ltorch_cpu', '-lc10']
        libraries += ['-ltorch_cuda', '-Xlinker', '-z,defs'] if torch.cuda else []
        link([toolkit.nvcc, *host, '-shared', '-cudart', 'static', *map(str, objects.values()), *libraries], target)
    return said


def build_cuda(target: Path) -> None:
    """Compile the CUDA kernels for the installed torch into ``target``.

    Raises:
        BuildError: This machine, torch or nvcc cannot do it.
    """
    check_platform()
    torch = find_torch()
    if not torch.cuda:  # said before a missing nvcc, which would not help
        raise BuildError(f'torch {torch.version} is not built for CUDA')
    toolkit = find_toolkit()
    check_versions(torch, toolkit)
    compile_cuda(target, torch, toolkit, choose_architectures(os.environ.get('TORCH_CUDA_ARCH_LIST', ''), toolkit))
