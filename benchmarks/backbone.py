"""Vim against DeiT on this machine: time and peak memory over the image size, and the ratios that matter.

    python benchmarks/backbone.py [--quick] [--out work_dirs/benchmarks]

Vim is compared with itself on the PyTorch path first; nothing is timed when its numbers are wrong. Each measurement
runs in a process of its own. Memory is what the process needs at its peak above the loaded model and the image. The
weights are random: time and memory do not depend on them.
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from torch import nn

from mmvim.analysis.deit import DeiT
from mmvim.analysis.measure import in_child, machine, peak_memory, time_call, write_tables
from mmvim.engine.cpu import keep_freed_memory
from mmvim.models import Vim

matplotlib.use('Agg')
import matplotlib.pyplot as plt

NAMES = {'vim': 'Vim-Ti', 'sdpa': 'DeiT-Ti, scaled_dot_product_attention', 'naive': 'DeiT-Ti, softmax(QK^T)V'}


class Case(NamedTuple):
    """One measurement: a model on square images, forward or a training step, fp32 or under bf16 autocast."""

    model: str
    size: int
    batch: int = 1
    train: bool = False
    bf16: bool = False


class Cost(NamedTuple):
    """Best and median seconds of one call, and bytes at its peak."""

    best: float
    median: float
    memory: int


def build(model: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    if model == 'vim':
        # At the size measured, so that all three models take their position embedding as it is.
        return Vim('tiny', pretrain_img_size=size)
    return DeiT(192, (size, size), fused=model == 'sdpa')


def measure(case: Case, seconds: float) -> Cost:
    """Memory of the first call, then the time of further ones; meant for a fresh process."""
    keep_freed_memory()  # as tools/train.py does, for every model
    model = build(case.model, case.size).train(case.train)
    image = torch.randn(case.batch, 3, case.size, case.size)

    def call() -> None:
        with torch.set_grad_enabled(case.train), torch.autocast('cpu', torch.bfloat16, enabled=case.bf16):
            out = model(image)[0]
        if case.train:
            out.square().mean().backward()
            model.zero_grad(set_to_none=True)

    memory = peak_memory(call)
    timing = time_call(call, seconds)
    return Cost(timing.best, timing.median, memory)


def gate() -> None:
    """Stop unless Vim gives the same maps and gradients on whatever kernels are taken and on the PyTorch path."""
    vim, image = build('vim', 96).eval(), torch.randn(1, 3, 96, 96)
    results = []
    with torch.no_grad():
        results.append(vim(image)[0])
        os.environ['MMVIM_BACKEND'] = 'torch'
        results.append(vim(image)[0])
        del os.environ['MMVIM_BACKEND']
    error = (results[0] - results[1]).norm() / results[1].norm()
    if not error < 1e-4:
        raise SystemExit(f'Vim is wrong (relative difference {error:.1e}): nothing was timed')


def row(what: str, ours: Cost, peer_name: str, peer: Cost, goal: str) -> dict:
    return {
        'what': what,
        'against': peer_name,
        'ours, s': round(ours.best, 4),
        'peer, s': round(peer.best, 4),
        'ratio of time': round(peer.best / ours.best, 2),
        'ratio of medians': round(peer.median / ours.median, 2),
        'ours, MB': round(ours.memory / 1e6),
        'peer, MB': round(peer.memory / 1e6),
        'share of memory': f'{ours.memory / peer.memory:.1%}',
        'goal': goal,
    }  # fmt: skip


def draw(costs: dict[Case, Cost], path: Path) -> None:
    """Time and memory of a forward pass over the image size, one line per model, both axes logarithmic."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for model, name in NAMES.items():
        sizes = sorted(case.size for case in costs if case.model == model)
        values = [costs[Case(model, size)] for size in sizes]
        axes[0].plot(sizes, [cost.best for cost in values], marker='o', label=name)
        axes[1].plot(sizes, [cost.memory / 1e6 for cost in values], marker='o', label=name)
    for ax, title in zip(axes, ('seconds per image', 'peak memory above the model, MB'), strict=True):
        ax.set(xscale='log', yscale='log', xlabel='image side, pixels', title=title)
        ax.set_xticks(sizes, sizes)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(f'Forward pass, batch 1, fp32, CPU with {torch.get_num_threads()} threads')
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for tables and the picture'
    )
    parser.add_argument('--quick', action='store_true', help='less time per measurement, images up to 512')
    args = parser.parse_args()
    seconds = 1.0 if args.quick else 8.0
    about = machine()
    gate()

    def cost(case: Case) -> Cost:
        result = in_child(measure, case, seconds)
        print(f'{case}: {result.best:.3f} s, {result.memory / 1e6:.0f} MB', flush=True)
        return result

    sizes = (224, 384, 512) if args.quick else (224, 384, 512, 768, 1024, 1248)
    curve = {case: cost(case) for case in (Case(model, size) for size in sizes for model in NAMES)}
    largest = {model: curve[Case(model, sizes[-1])] for model in NAMES}
    what = f'Vim-Ti, {sizes[-1]} x {sizes[-1]}, forward, fp32'
    rows = [
        row(what, largest['vim'], NAMES['sdpa'], largest['sdpa'], '3x, reach for 3.5x'),
        row(what, largest['vim'], NAMES['naive'], largest['naive'], '10x, 13 % of the memory'),
    ]
    size = 256 if args.quick else 512
    step = {model: cost(Case(model, size, batch=2, train=True)) for model in ('vim', 'sdpa')}
    what = f'Vim-Ti, {size} x {size}, batch 2, forward + backward, fp32'
    rows.append(row(what, step['vim'], NAMES['sdpa'], step['sdpa'], '1x'))
    bf16 = cost(Case('vim', sizes[-1], bf16=True))
    goal = '1.6x' if torch.cpu._is_amx_tile_supported() else 'none: no AMX'
    rows.append(row(f'Vim-Ti, {sizes[-1]}, bf16 autocast', bf16, 'our fp32', largest['vim'], goal))
    write_tables(args.out, 'backbone', 'Vim against DeiT', about, rows)
    table = [
        {
            'model': NAMES[case.model], 'image side': case.size, 'best, s': round(c.best, 4),
            'median, s': round(c.median, 4), 'MB': round(c.memory / 1e6),
        }
        for case, c in curve.items()
    ]  # fmt: skip
    write_tables(args.out, 'backbone_sizes', 'Forward pass over the image size, batch 1, fp32', about, table)
    draw(curve, args.out / 'backbone.png')


if __name__ == '__main__':
    main()
