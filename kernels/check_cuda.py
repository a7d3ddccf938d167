"""Hold the CUDA kernels to their budget of registers: every source compiled without a warning, no spills, one library.

    python kernels/check_cuda.py [--rewrite] [ARCHITECTURE ...]     such as 90; all by default

The library is linked against the installed torch, a CPU build too, and thrown away. No GPU is needed.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from kernels.build_cuda import ARCHITECTURES, choose_architectures, compile_cuda, find_toolkit
from kernels.toolchain import KERNELS, BuildError, find_torch

BUDGET = KERNELS / 'cuda' / 'registers.txt'
STRICT = ('-Werror', 'all-warnings', '-Xcompiler', '-Wall,-Werror', '-Xptxas', '-v')
UNIT = 8  # registers are given to threads in units; what changes within one changes nothing
SHORTER = {'mmvim::cuda::': '', '(anonymous namespace)::': '', '__nv_bfloat16': 'bfloat16', '__half': 'float16'}


class Usage(NamedTuple):
    """What a kernel takes on one architecture: registers per thread, and bytes per thread that did not fit in them."""

    registers: int
    spilled: int


Table = dict[str, dict[int, Usage]]  # by kernel, then by architecture (90 for 9.0)


def parse_ptxas(text: str) -> Table:
    """What ``-Xptxas -v`` says of every kernel, by its mangled name. Of a kernel met twice the larger usage counts."""
    table: Table = {}
    kernel, architecture, spilled = '', 0, 0
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w?'", line):
            kernel, architecture, spilled = match[1], int(match[2]), 0
        elif match := re.search(r'(\d+) bytes spill stores, (\d+) bytes spill loads', line):
            spilled += int(match[1]) + int(match[2])
        elif (match := re.search(r'Used (\d+) registers', line)) and kernel:
            before = table.setdefault(kernel, {}).get(architecture, Usage(0, 0))
            table[kernel][architecture] = Usage(max(before[0], int(match[1])), max(before[1], spilled))
            kernel = ''
    return table


def readable(mangled: list[str]) -> dict[str, str]:
    """Short names of kernels: ``conv_forward<4, float>``."""
    answer = subprocess.run(['c++filt', *mangled], capture_output=True, text=True, check=True)
    return dict(zip(mangled, map(shorten, answer.stdout.splitlines()), strict=True))


def shorten(name: str) -> str:
    """A demangled name without its result, arguments and namespaces."""
    for long, short in SHORTER.items():
        name = name.replace(long, short)
    depth = 0
    for at, character in enumerate(name):
        depth += {'<': 1, '>': -1}.get(character, 0)
        if character == '(' and not depth:
            return name[:at].removeprefix('void ')
    return name


def read_budget(text: str) -> dict[str, dict[int, int]]:
    """Registers by kernel and architecture.

    Raises:
        ValueError: A line does not have one number per architecture of the heading.
    """
    heading, *lines = [line for line in text.splitlines() if line.strip() and not line.startswith('##')]
    architectures = [int(name) for name in re.findall(r'sm_(\d+)', heading)]
    budget = {}
    for line in lines:
        *numbers, kernel = line.split(maxsplit=len(architectures))
        if len(numbers) != len(architectures) or not all(number.isdigit() for number in numbers):
            raise ValueError(f'{BUDGET.name}: expected {len(architectures)} numbers and a kernel, got {line!r}')
        budget[kernel] = dict(zip(architectures, map(int, numbers), strict=True))
    return budget


def write_budget(table: Table, nvcc: str) -> str:
    """The text of a budget that ``table`` just keeps."""
    architectures = sorted({architecture for usages in table.values() for architecture in usages})
    lines = [
        f'## Registers per thread that kernels may use, in units of {UNIT}, as nvcc {nvcc} gives them.',
        '## Held by tools/check_cuda.sh; tools/check_cuda.sh --rewrite writes this file anew.',
        ' '.join(f'sm_{architecture}'.rjust(6) for architecture in architectures) + ' kernel',
    ]
    for kernel, usages in sorted(table.items()):
        units = (-(-usages[architecture].registers // UNIT) * UNIT for architecture in architectures)
        lines.append(' '.join(str(unit).rjust(6) for unit in units) + f' {kernel}')
    return '\n'.join(lines) + '\n'


def complaints(table: Table, budget: dict[str, dict[int, int]]) -> list[str]:
    """One line for every kernel that spills, takes more than its budget, or is missing on one of the two sides."""
    result = []
    for kernel, usages in sorted(table.items()):
        for architecture, usage in sorted(usages.items()):
            where = f'{kernel} on sm_{architecture}'
            allowed = budget.get(kernel, {}).get(architecture)
            if usage.spilled:
                result.append(f'{where} spills {usage.spilled} bytes')
            if allowed is None:
                result.append(f'{where} has no budget')
            elif usage.registers > allowed:
                result.append(f'{where} takes {usage.registers} registers, its budget is {allowed}')
    result += [f'{kernel} has a budget, but is not compiled' for kernel in sorted(budget.keys() - table.keys())]
    return result


def main() -> int:
    """Compile, link, compare; 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('architectures', nargs='*', metavar='ARCHITECTURE', type=int, help='such as 90 for 9.0')
    parser.add_argument('--rewrite', action='store_true', help=f'write {BUDGET.name} instead of comparing with it')
    arguments = parser.parse_args()
    if arguments.rewrite and arguments.architectures:
        parser.error('--rewrite compiles for all architectures')
    try:
        toolkit = find_toolkit()
        chosen = choose_architectures(';'.join(f'{n // 10}.{n % 10}' for n in arguments.architectures), toolkit)
        if missing := [n for n in ARCHITECTURES if arguments.rewrite and str(n) not in chosen.machine]:
            raise BuildError(f'nvcc {toolkit.version} does not know {missing}')
        with tempfile.TemporaryDirectory() as scratch:
            said = compile_cuda(Path(scratch) / '_C_cuda.abi3.so', find_torch(), toolkit, chosen, STRICT)
    except BuildError as error:
        print(f'check_cuda: {error}', file=sys.stderr)
        return 1
    table = parse_ptxas('\n'.join(said.values()))
    names = readable(list(table))
    table = {names[mangled]: usages for mangled, usages in table.items()}
    if arguments.rewrite:
        BUDGET.write_text(write_budget(table, toolkit.version))
    problems = complaints(table, read_budget(BUDGET.read_text()))
    print(
        '\n'.join(problems) or f'{len(table)} kernels for {chosen}: registers within {BUDGET.name}, no spills, linked'
    )
    return bool(problems)


if __name__ == '__main__':
    sys.exit(main())
