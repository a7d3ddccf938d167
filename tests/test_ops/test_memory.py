"""PyTorch's path on a card may need three times the memory of the CUDA kernels at Vim-Ti, 1248 x 1248, batch 8.

It is counted for one image, a few channels and two lengths at which what grows with the length is most of it, and goes
on in proportion to the whole. What the kernels take follows from shapes, as scan_forward.cu and scan_backward.cu say.
"""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mmvim.ops import chunked, walks
from mmvim.ops.form import Form, Tensors

BATCH, TOKENS, CHANNELS, STATES, RANK, WALKS = 8, 78 * 78 + 1, 384, 16, 12, 2  # of Vim-Ti at 1248 x 1248
TIMES = 3


def most_held(call: Callable[[], object]) -> int:
    """Bytes of torch's allocator, at most, above what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def counted(length: int, channels: int, backward: bool) -> int:
    """Bytes beside the inputs of one image's scan in bf16."""

    def half(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).bfloat16()

    projected = half(1, WALKS, length, RANK + 2 * STATES)
    delta, B, C = projected.split([RANK, STATES, STATES], -1)
    inputs = Tensors(
        u=half(1, WALKS, length, channels), delta=delta, A=-torch.rand(WALKS, channels, STATES), B=B, C=C,
        D=torch.ones(WALKS, channels), z=half(1, length, channels), delta_bias=torch.zeros(WALKS, channels),
        dt_weight=torch.randn(WALKS, channels, RANK),
    )  # fmt: skip
    form = Form((walks.ROW, walks.ROW_REVERSED), 1, length, True, False, False, True, 0.5)
    walk = form.walks(None)

    def call() -> None:
        y, states, _ = chunked.scan_forward(inputs, walk, form, torch.bfloat16, backward)
        if backward:
            chunked.scan_backward(torch.ones_like(y), inputs, states, walk, form, (True,) * len(inputs))

    return most_held(call)


def of_pytorch(backward: bool) -> float:
    """Bytes beside the inputs: linear in the length for each number of channels, and the other way round."""
    short, long, few, more = 2048, 3072, 16, 32
    at_tokens = []
    for channels in (few, more):
        low, high = counted(short, channels, backward), counted(long, channels, backward)
        at_tokens.append(low + (high - low) / (long - short) * (TOKENS - short))
    return BATCH * (at_tokens[0] + (at_tokens[1] - at_tokens[0]) / (more - few) * (CHANNELS - few))


def of_kernels(backward: bool) -> float:
    """Bytes beside the inputs: results, states and workspace."""
    elements = BATCH * TOKENS * CHANNELS
    y, last = 2 * elements, 4 * BATCH * WALKS * CHANNELS * STATES
    if not backward:
        return y + last + 4 * elements  # the sum over walks, in fp32
    states = 4 * BATCH * WALKS * ((TOKENS - 1) // 32) * STATES * CHANNELS
    rows = BATCH * WALKS * TOKENS
    results = 2 * (WALKS * elements + rows * (RANK + 2 * STATES) + elements)  # du, ddelta, dB, dC, dz
    workspace = 4 * (2 * WALKS * elements + CHANNELS // 32 * rows * 2 * STATES)  # ddelta, y, parts of dB and dC
    return y + last + states + 2 * elements + results + workspace  # with the gradient of y


@pytest.mark.parametrize('backward', [False, True], ids=['forward', 'forward and backward'])
def test_memory_of_pytorch_on_a_card(backward):
    pytorch, kernels = of_pytorch(backward), of_kernels(backward)
    assert 0.5 * kernels < pytorch <= TIMES * kernels


def test_what_is_held_is_counted():
    def call() -> None:
        x = torch.empty(10000)
        del x
        y = torch.empty(5000)
        y[:10].add_(1)
        y.view(2, -1) + 1

    assert most_held(call) == pytest.approx(40000, abs=64)
