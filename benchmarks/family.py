"""Tiny variants of the family on this machine: each against itself with a loop in the place of the scans, and Swin-T.

    python benchmarks/family.py [--models localvim_tiny ...] [--size 512] [--quick] [--out work_dirs/benchmarks]

Whole backbones, one image, fp32, inference, random weights, which change no time. The loop is that of
``mmvim/ops/reference.py``: plain PyTorch, tensors gathered along every walk and then one step after the other. Nothing
is timed unless both give the same maps. A model and its peer take turns in one process, and the best time of each
counts.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.analysis.models import build, title
from mmvim.engine.cpu import keep_freed_memory
from mmvim.ops import walk_conv
from mmvim.ops.reference import scan_reference

# Model of mmvim.analysis.models -> the file in mmvim/models/backbones in which its scans are called.
MIXERS = {
    'localvim_tiny': 'localvim_mixer',
    'localvmamba_tiny': 'vmamba_mixer',
    'efficientvmamba_tiny': 'vmamba_mixer',
    'plainmamba_l1': 'plainmamba_mixer',
    'mambavision_tiny': 'mambavision_blocks',
}
SWIN = 'swin_tiny'


def loop(u: Tensor, *args: Tensor, out_dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """:func:`mmvim.ops.scan` by the reference."""
    return scan_reference(u, *args, **options)[0]


def with_loop(name: str, call: Callable[[], Any]) -> Callable[[], Any]:
    """``call`` with plain PyTorch in the place of the operators that a model calls."""
    mixer = import_module(f'mmvim.models.backbones.{MIXERS[name]}')
    slow = {'scan': loop, 'walk_conv': partial(walk_conv, backend='torch')}
    slow = {operator: other for operator, other in slow.items() if hasattr(mixer, operator)}
    fast = {operator: getattr(mixer, operator) for operator in slow}

    def called() -> Any:
        vars(mixer).update(slow)
        try:
            return call()
        finally:
            vars(mixer).update(fast)

    return called


def gate(name: str) -> None:
    """Stop unless a model gives the maps that it gives with the loop."""
    torch.manual_seed(0)
    model, image = build(name, 96), torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        ours, theirs = model(image), with_loop(name, lambda: model(image))()
    for a, b in zip(ours, theirs, strict=True):
        error = ((a - b).norm() / b.norm()).item()
        if not error < 1e-4:
            raise SystemExit(
                f'{title(name)} is not what its loop is (relative difference {error:.1e}): nothing was timed'
            )


def take_turns(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The best time of each of some calls, one after the other in every round, behind one that warms up."""
    times = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, kept in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            kept += [time.perf_counter() - start] if number else []
    return [min(kept) for kept in times]


@torch.inference_mode()
def measure(name: str, peer: str, size: int, rounds: int) -> list[float]:
    """Seconds of a model and of its peer, another model or ``'loop'``; meant for a fresh process."""
    keep_freed_memory()
    torch.manual_seed(0)
    model, image = build(name, size), torch.randn(1, 3, size, size)

    def ours() -> tuple[Tensor, ...]:
        return model(image)

    if peer == 'loop':
        seconds = take_turns([ours], rounds)
        start = time.perf_counter()
        with_loop(name, ours)()
        return [*seconds, time.perf_counter() - start]
    other = build(peer, size)
    return take_turns([ours, lambda: other(image)], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=MIXERS, default=list(MIXERS), metavar='NAME')
    parser.add_argument('--size', type=int, default=512, help='side of the image in pixels')
    parser.add_argument('--quick', action='store_true', help='fewer rounds')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    rounds, about, rows = 3 if args.quick else 10, machine(), []
    for name in args.models:
        gate(name)
        for peer, goal in (('loop', '20x'), (SWIN, 'the figure')):
            mine, other = in_child(measure, name, peer, args.size, rounds)
            rows.append(
                {
                    'what': f'{title(name)}, {args.size} x {args.size}',
                    'against': 'the same with a PyTorch loop over materialised walks'
                    if peer == 'loop'
                    else title(peer),
                    'ours, s': round(mine, 4),
                    'peer, s': round(other, 4),
                    'ratio of time': round(other / mine, 2),
                    'goal': goal,
                }
            )
            print(rows[-1], flush=True)
    write_tables(args.out, 'family', 'Tiny variants against a loop and against Swin-T', about, rows)


if __name__ == '__main__':
    main()
