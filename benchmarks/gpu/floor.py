"""The least time that a scan can take on a card: its bytes over the bandwidth, its exponentials over their units.

A floor counts each input read once and each output written once, and of arithmetic only the special functions: an exp2
per (token, channel, state, walk), two more for the softplus of each step, two for the gate of each output.
"""

import math
import re
import shutil
import subprocess
from typing import Any, NamedTuple

import torch
from timing import eager
from torch import Tensor

from mmvim.ops import Walks

SPECIAL_PER_CLOCK = 16  # special functions per multiprocessor and clock, compute capability 7.5 to 12


class Ceilings(NamedTuple):
    """Of a card: bytes and special functions per second, and where the numbers come from."""

    bytes: float
    special: float
    source: str


def ceilings(device: str) -> Ceilings:
    """Measure the bandwidth by a copy; the rate of special functions follows from the highest clock."""
    size = 2**30 if device == 'cuda' else 2**22
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    source.random_()
    copied = 2 * size / eager([lambda: target.copy_(source)], device).median
    if device == 'cpu':
        return Ceilings(copied, 1e12, 'dry run, made up')
    query = ['nvidia-smi', '--query-gpu=clocks.max.sm', '--format=csv,noheader,nounits', '-i', '0']
    answer = subprocess.run(query, capture_output=True, text=True).stdout if shutil.which(query[0]) else ''
    if not re.match(r'\d+', answer):
        return Ceilings(copied, math.inf, 'copy measured; nvidia-smi does not tell the clock')
    clock = float(re.match(r'\d+', answer).group()) * 1e6
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    origin = (
        f'copy measured; {SPECIAL_PER_CLOCK} x {processors} multiprocessors x {clock / 1e6:.0f} MHz (highest clock)'
    )
    return Ceilings(copied, SPECIAL_PER_CLOCK * processors * clock, origin)


class Floor(NamedTuple):
    """Seconds that memory and special functions take at least."""

    memory: float
    special: float

    def share(self, seconds: float) -> str:
        """What part of a measured time the higher floor is, and which it is."""
        name = 'special functions' if self.special > self.memory else 'memory'
        return f'{max(self) / seconds:.0%} ({name})'


def scan_floor(case: dict[str, Any], card: Ceilings, backward: bool = False) -> Floor:
    """The floor of a scan, or of its forward and backward pass together.

    A backward pass reads the inputs again with the gradient of the output, writes a gradient for each input, and passes
    over the saved states (N / 8 bytes per token, channel and walk) that the forward pass wrote; it needs each decay and
    each step once more, and two special functions more per step for the derivative of softplus.
    """
    walks: Walks = case['walks']
    u, z, states = case['u'], case.get('z'), case['A'].shape[-1]
    batch, channels = u.shape[0], u.shape[-1]
    elements = batch * walks.num_tokens * channels
    steps = batch * walks.num_walks * walks.num_steps * channels
    inputs = sum(_bytes(case[key]) for key in ('u', 'delta', 'B', 'C', 'z') if isinstance(case.get(key), Tensor))
    moved = inputs + elements * u.element_size()
    special = steps * (states + 2) + (2 * elements if z is not None else 0)
    if backward:
        saved = steps * states // 8
        moved += 2 * inputs + elements * u.element_size() + 2 * saved
        special += steps * (states + 4) + (2 * elements if z is not None else 0)
    return Floor(moved / card.bytes, special / card.special)


def conv_floor(x: Tensor, num_walks: int, card: Ceilings, backward: bool = False) -> Floor:
    """The floor of a convolution with SiLU over walks that visit every token."""
    passes = (1 + num_walks) + (2 + num_walks if backward else 0)
    special = 2 * x.numel() * num_walks * (2 if backward else 1)
    return Floor(passes * _bytes(x) / card.bytes, special / card.special)


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
