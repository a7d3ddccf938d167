"""Predict the least time of scans on an H100 from the machine code of the kernels and the shapes; needs no GPU.

    python benchmarks/gpu/predict.py mmvim/_C_cuda.abi3.so

cuobjdump of the CUDA toolkit is asked for the code of sm_80 and sm_90. Instructions are counted in basic blocks: of the
recurrence those for each exp2, which is one for every (token, channel, state, walk); of the rest of a step those of the
shortest block that loads rows, that has the logarithm of softplus, and that gates an output. What is between blocks
is not counted, nothing waits, and caches hold what is read twice: a time is a bound that a measurement is held against.
"""

import argparse
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from common import ROOT
from floor import SPECIAL_PER_CLOCK, Ceilings, scan_floor
from work import Shape, vim, vmamba

from mmvim.markdown import markdown_table

# An H100 SXM5: 132 multiprocessors, 1.98 GHz at most, 4 instructions of 32 lanes per clock; its memory as far as a copy
# on one showed it (3.0 TB/s).
PROCESSORS, CLOCK = 132, 1.98e9
H100 = Ceilings(3.0e12, SPECIAL_PER_CLOCK * PROCESSORS * CLOCK, 'modelled')
LANES_PER_SECOND = 4 * 32 * PROCESSORS * CLOCK
KERNELS = {
    'forward': 'scan_kernel<{N}, __nv_bfloat16>',
    'forward, ends of segments': 'scan_aggregate_kernel<{N}, __nv_bfloat16>',
    'backward': 'adjoint_kernel<__nv_bfloat16, {N}>',
    'backward, ends of segments': 'aggregate_kernel<__nv_bfloat16, {N}>',
}
MICRO = 8  # steps that a thread of the backward pass has in registers, kMicro
Block = list[str]
SHAPES = (
    vim('Vim-Ti, 224', 192, 64, 197),
    vim('Vim-Ti, 512', 192, 8, 1025),
    vim('Vim-Ti, 1248', 192, 8, 6085),
) + tuple(vmamba(f'VMamba-T, 512, stage {i + 1}', 96 << i, 16, (128 >> i, 128 >> i)) for i in range(4))


class Counts(NamedTuple):
    """Instructions of a kernel.

    Attributes:
        recurrence: For each (token, channel, state, walk).
        step: Beside that, for each (token, channel, walk).
    """

    recurrence: float
    step: float


def functions(text: str) -> dict[str, list[tuple[int, str]]]:
    """Addresses and instructions of every kernel in the output of ``cuobjdump -sass``, by mangled name."""
    found: dict[str, list[tuple[int, str]]] = {}
    name = ''
    for line in text.splitlines():
        if match := re.search(r'Function : (\S+)', line):
            name = match[1]
            found[name] = []
        elif name and (match := re.match(r'\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;', line)):
            found[name].append((int(match[1], 16), re.sub(r'^@!?U?P\w+ +', '', match[2])))
    return found


def blocks(code: list[tuple[int, str]]) -> list[Block]:
    """Basic blocks: they begin where a jump leads, and end at one."""
    jump = re.compile(r'(?:BRA|BSSY)\b.*?0x([0-9a-f]+)$')
    targets = {int(match[1], 16) for _, text in code if (match := jump.match(text))}
    found: list[Block] = [[]]
    for address, text in code:
        if address in targets:
            found.append([])
        found[-1].append(text)
        if re.match('BRA|EXIT|BRX|RET', text):
            found.append([])
    return [block for block in found if block]


def count(code: list[tuple[int, str]], backward: bool) -> Counts:
    """See :class:`Counts`."""
    found = [(block, Counter(re.match(r'MUFU\.\w+|\w+', text)[0] for text in block)) for block in blocks(code)]

    def least(rows: str, unlike: tuple[str, ...], fewest: int) -> float:
        costs = [len(block) / c[rows] for block, c in found if c[rows] >= fewest and not any(c[x] for x in unlike)]
        return min(costs, default=0.0)

    plain = [(block, c) for block, c in found if not (c['MUFU.LG2'] or c['MUFU.RCP'])]
    most = max(c['MUFU.EX2'] for _, c in plain)
    repeated = [(block, c) for block, c in plain if 2 * c['MUFU.EX2'] >= most]
    summed = [(block, c) for block, c in plain if c['SHFL'] >= MICRO]
    if backward:
        # A sweep finds the states again; then come the states of a micro tile, and what is added up over channels.
        recurrence = min(len(block) / c['MUFU.EX2'] for block, c in repeated if not c['SHFL'])
        whole = [len(block) / c['MUFU.EX2'] for block, c in repeated if c['SHFL'] >= MICRO]
        apart = [len(block) / MICRO for block, c in summed if not c['MUFU.EX2']]
        recurrence += min(whole) if whole else recurrence + min(apart)
    else:
        recurrence = sum(len(b) for b, _ in repeated) / sum(c['MUFU.EX2'] for _, c in repeated)
    gate = least('MUFU.RCP', ('MUFU.LG2',), 4)
    step = least('LDG', ('MUFU.RCP', 'MUFU.EX2', 'STS'), 7) + least('MUFU.LG2', (), 4) + gate
    return Counts(recurrence, step)


def disassemble(library: Path, architecture: int) -> dict[str, list[tuple[int, str]]]:
    """Kernels of a library by readable names."""
    command = ['cuobjdump', '-sass', '-arch', f'sm_{architecture}', str(library)]
    if shutil.which(command[0]) is None:
        raise SystemExit('there is no cuobjdump on the PATH: it is in the CUDA toolkit, and in nvidia-cuda-cuobjdump')
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = functions(text)
    names = subprocess.run(['c++filt', *found], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name.removeprefix('void mmvim::cuda::'): code for name, code in zip(names, found.values(), strict=True)}


def counted(library: Path, architecture: int) -> dict[tuple[str, int], Counts]:
    """(what, states) -> instructions."""
    code = disassemble(library, architecture)
    return {
        (what, states): count(
            next(code[name] for name in code if name.startswith(pattern.format(N=states))), what == 'backward'
        )
        for what, pattern in KERNELS.items()
        for states in (16, 1)
    }


def predictions(counts: dict[tuple[str, int], Counts]) -> Iterator[list[str]]:
    """A row per shape and pass: microseconds that memory, special functions and instructions take at least."""
    for shape in SHAPES:
        case, steps = _meta(shape), shape.batch * shape.walks.num_walks * shape.walks.num_steps * shape.channels
        for backward in (False, True):
            floor = scan_floor(case, H100, backward)
            passes = ['forward', *(['backward'] if backward else [])]
            if shape.states == 1:  # walks of one state are always cut on such a card
                passes.append('forward, ends of segments')
            instructions = sum(
                steps * (shape.states * counts[what, shape.states].recurrence + counts[what, shape.states].step)
                for what in passes
            )
            times = {'memory': floor.memory, 'special functions': floor.special,
                     'instructions': instructions / LANES_PER_SECOND}  # fmt: skip
            bound = max(times, key=times.get)
            grid = shape.walks.num_tokens if shape.gate else f'{shape.walks.height} x {shape.walks.width}'
            yield [
                f'{shape.name}: B {shape.batch}, L {grid}, D {shape.channels}, N {shape.states}',
                'forward + backward' if backward else 'forward',
                *(f'{1e6 * time:.0f}' for time in times.values()),
                f'{1e6 * times[bound]:.0f} us, {bound}',
                '',
            ]


def _meta(shape: Shape) -> dict:
    """Arguments of a scan in bf16, without memory."""
    K, L, D, N, R = shape.walks.num_walks, shape.walks.num_tokens, shape.channels, shape.states, shape.rank

    def half(*size: int) -> torch.Tensor:
        return torch.empty(shape.batch, *size, dtype=torch.bfloat16, device='meta')

    return {
        'u': half(*((K,) if shape.gate else ()), L, D), 'delta': half(K, L, R), 'B': half(K, L, N), 'C': half(K, L, N),
        'A': torch.empty(K, D, N, device='meta'), 'z': half(L, D) if shape.gate else None, 'walks': shape.walks,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('library', type=Path, nargs='?', default=ROOT / 'mmvim' / '_C_cuda.abi3.so')
    library = parser.parse_args().library
    by_card = {architecture: counted(library, architecture) for architecture in (80, 90)}
    rows = [
        [what, states, *(f'{getattr(by_card[card][what, states], key):.1f}' for key in ('recurrence', 'step')
                         for card in by_card)]
        for what, states in by_card[90]
    ]  # fmt: skip
    heads = [f'{what}, sm_{card}' for what in ('per state', 'per step beside') for card in by_card]
    print(markdown_table(['kernel', 'N', *heads], rows))
    heads = ['memory, us', 'special functions, us', 'instructions, us', 'predicted: at least', 'measured']
    print(markdown_table(['scan, bf16', 'pass', *heads], predictions(by_card[90])))


if __name__ == '__main__':
    main()
