"""Speed of the scan on this machine, as ratios against its peers in the same run.

    python benchmarks/scan.py [--quick] [--out work_dirs/benchmarks]

The results are compared with the fp64 reference first; nothing is timed when they are wrong. Peers:

- loop: the recurrence in PyTorch, decays of all steps at once, one step after the other over ``unbind()``
- compiled: ``torch.compile`` of the chunked path that mmvim takes without its kernels
- pscan: the parallel scan of the package mambapy, where that is installed
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.analysis.measure import Timing, machine, time_call, write_tables
from mmvim.ops import scan, walks
from mmvim.ops.chunked import TILE
from mmvim.ops.reference import scan_reference
from mmvim.ops.walks import Walks

try:
    from mambapy.pscan import pscan
except ImportError:
    pscan = None

Inputs = dict[str, Tensor]


def make_inputs(walk: Walks, channels: int, d_state: int, batch: int = 1, shared: bool = False) -> Inputs:
    """Random arguments of a scan at the scale of a trained model, all leaves that require gradients."""
    torch.manual_seed(0)
    K, L = walk.num_walks, walk.num_tokens
    decay = -torch.arange(1.0, d_state + 1).repeat(K, channels, 1) * (0.7 + 0.6 * torch.rand(K, channels, d_state))
    inputs = {
        'u': torch.randn(batch, L, channels) if shared else torch.randn(batch, K, L, channels),
        'delta': 0.5 * torch.randn(batch, K, L, channels),
        'A': decay,
        'B': torch.randn(batch, K, L, d_state),
        'C': torch.randn(batch, K, L, d_state),
        'D': torch.randn(K, channels),
        'delta_bias': -4.6 + torch.randn(K, channels),
    }
    return {name: value.requires_grad_() for name, value in inputs.items()}


def ours(inputs: Inputs, walk: Walks) -> Tensor:
    return scan(**inputs, walks=walk)


def scan_merged(inputs: Inputs, walk: Walks, merge: str) -> Tensor:
    return scan(**inputs, walks=walk, merge=merge)


def _in_walking_order(inputs: Inputs, walk: Walks) -> tuple[Tensor, ...]:
    """u, delta after softplus, B, C as (B, K, S, .), each walk a copy, as implementations without walks need it."""
    order = walk.tokens()
    along = []
    for name in ('u', 'delta', 'B', 'C'):
        x = inputs[name] if inputs[name].dim() == 4 else inputs[name].unsqueeze(1).expand(-1, len(order), -1, -1)
        along.append(torch.stack([x[:, k, steps] for k, steps in enumerate(order)], 1))
    u, delta, B, C = along
    return u, F.softplus(delta + inputs['delta_bias'].unsqueeze(1)), B, C


def _back(y: Tensor, walk: Walks) -> Tensor:
    """(B, K, S, D) in walking order to the sum over walks in token order."""
    inverse = walk.tokens().argsort(1)
    return sum(y[:, k, steps] for k, steps in enumerate(inverse))


def loop(inputs: Inputs, walk: Walks) -> Tensor:
    u, delta, B, C = _in_walking_order(inputs, walk)
    decay = torch.exp(delta.unsqueeze(-1) * inputs['A'].unsqueeze(1))
    driven = (delta * u).unsqueeze(-1) * B.unsqueeze(-2)
    h, ys = torch.zeros_like(driven[:, :, 0]), []
    for a, b, c in zip(decay.unbind(2), driven.unbind(2), C.unbind(2), strict=True):
        h = a * h + b
        ys.append((h @ c.unsqueeze(-1)).squeeze(-1))
    return _back(torch.stack(ys, 2) + inputs['D'].unsqueeze(1) * u, walk)


def parallel(inputs: Inputs, walk: Walks) -> Tensor:
    u, delta, B, C = _in_walking_order(inputs, walk)
    decay = torch.exp(delta.unsqueeze(-1) * inputs['A'].unsqueeze(1)).flatten(0, 1)
    states = pscan(decay, ((delta * u).unsqueeze(-1) * B.unsqueeze(-2)).flatten(0, 1)).unflatten(0, u.shape[:2])
    return _back((states @ C.unsqueeze(-1)).squeeze(-1) + inputs['D'].unsqueeze(1) * u, walk)


@torch.compile(dynamic=False)
def _compiled_tile(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, h: Tensor) -> tuple:
    ys = []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, :, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, :, t, None]
        ys.append((h * C[:, :, t, None]).sum(-1) + D * u[:, :, t])
    return torch.stack(ys, 2), h


def compiled(inputs: Inputs, walk: Walks) -> Tensor:
    u, delta, B, C = _in_walking_order(inputs, walk)
    h, ys = u.new_zeros(*u.shape[:2], *inputs['A'].shape[1:]), []
    for start in range(0, u.shape[2], TILE):
        tile = (x[:, :, start : start + TILE].contiguous() for x in (u, delta, B, C))
        u_, delta_, B_, C_ = tile
        y, h = _compiled_tile(u_, delta_, inputs['A'], B_, C_, inputs['D'], h)
        ys.append(y)
    return _back(torch.cat(ys, 2), walk)


def gate() -> None:
    """Stop unless every implementation agrees with the fp64 reference, gradients included."""
    walk = walks.bidirectional(100)
    inputs = make_inputs(walk, 24, 16)
    exact = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    expected, _ = scan_reference(**exact, walks=walk)
    expected_grads = torch.autograd.grad(expected.square().sum(), list(exact.values()))
    for peer in filter(None, (ours, loop, compiled, parallel if pscan else None)):
        y = peer(inputs, walk)
        grads = torch.autograd.grad(y.square().sum(), list(inputs.values()))
        for a, b in zip((y, *grads), (expected, *expected_grads), strict=True):
            error = (a - b).norm() / b.norm()
            if not error < 1e-4:
                raise SystemExit(f'{peer.__name__} is wrong (relative error {error:.1e}): nothing was timed')


def forward(peer: Callable, inputs: Inputs, walk: Walks) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return peer(inputs, walk)

    return call


def forward_backward(peer: Callable, inputs: Inputs, walk: Walks) -> Callable[[], tuple]:
    leaves = list(inputs.values())
    return lambda: torch.autograd.grad(peer(inputs, walk).sum(), leaves)


def compare(rows: list[dict], what: str, walk: Walks, channels: int, d_state: int, mode: Callable, peer: Callable,
            goal: str, seconds: float, shared: bool = False) -> None:  # fmt: skip
    """Add a row: ours against ``peer``."""
    inputs = make_inputs(walk, channels, d_state, shared=shared)
    elements = walk.num_walks * walk.num_steps * channels * d_state
    # The two take turns, so that what else runs on the machine slows down both.
    mine = time_call(mode(ours, inputs, walk), seconds)
    other = time_call(mode(peer, inputs, walk), seconds, least=2)
    again = time_call(mode(ours, inputs, walk), seconds)
    mine = Timing(min(mine.best, again.best), (mine.median + again.median) / 2, mine.runs + again.runs)
    rows.append({
        'what': what,
        'against': peer.__name__,
        'ours, ms': round(mine.best * 1e3, 3),
        'peer, ms': round(other.best * 1e3, 1),
        'ratio': round(other.best / mine.best, 1),
        'ratio of medians': round(other.median / mine.median, 1),
        'ours, ns per element': round(mine.best * 1e9 / elements, 3),
        'goal': goal,
    })  # fmt: skip
    print(rows[-1], flush=True)


def compare_table(rows: list[dict], side: int, d_state: int, merge: str, mode: Callable, seconds: float) -> None:
    """Add rows: a step of walks given by a table against one of walks along rows, which the kernels compute. Half of a
    snake runs down columns, which costs more in large maps whoever finds the tokens: so against rows and columns too.
    """
    plain, cross = walks.Walks(side, side, (walks.ROW, walks.ROW_REVERSED) * 2), walks.cross(side, side)
    peers = {'rows': plain, 'rows and columns': cross}
    tables = {
        'rows as a table': walks.from_table(plain.tokens(), side, side),
        'rows and columns as a table': walks.from_table(cross.tokens(), side, side),
        'windows of 7': walks.local(side, side, ('w7', 'w7_flip') * 2),
        'snake': walks.snake(side, side),
    }
    run = partial(scan_merged, merge=merge)
    all_walks = peers | tables
    calls = {name: mode(run, make_inputs(walk, 96, d_state, shared=True), walk) for name, walk in all_walks.items()}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(4):  # they take turns
        for name, call in calls.items():
            best[name] = min(best[name], time_call(call, seconds / 8).best)
    step = {name: best[name] / walk.num_steps for name, walk in all_walks.items()}
    for name in tables:
        rows.append({
            'walks': name,
            'map': f'{side} x {side}',
            'N': d_state,
            'merge': merge,
            'what': mode.__name__.replace('_', ' + '),
            **{f'a step against one along {peer}': round(step[name] / step[peer], 2) for peer in peers},
            'goal': 'at most 1.25',
        })  # fmt: skip
        print(rows[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the tables')
    parser.add_argument('--quick', action='store_true', help='less time per measurement, shorter sequences')
    args = parser.parse_args()
    seconds = 0.3 if args.quick else 2.0
    about = machine()
    gate()
    rows: list[dict] = []
    mamba = walks.rows(1025)
    compare(
        rows, 'N=16, D=384, L=1025, one walk, forward', mamba, 384, 16, forward, loop, '100, reach for 150', seconds
    )
    compare(rows, 'the same, forward + backward', mamba, 384, 16, forward_backward, loop, '60', seconds)
    vim = walks.bidirectional(1025)
    compare(rows, 'N=16, D=384, L=1025, two walks, forward', vim, 384, 16, forward, loop, '100, reach for 150', seconds)
    compare(rows, 'the same, forward + backward', vim, 384, 16, forward_backward, loop, '60', seconds)
    compare(rows, 'the same, forward', vim, 384, 16, forward, compiled, '5', seconds)
    compare(rows, 'the same, forward + backward', vim, 384, 16, forward_backward, compiled, '5', seconds)
    if pscan is None:
        print('pscan: mambapy is not installed (pip install mambapy), its rows are left out')
    elif not args.quick:
        long = walks.bidirectional(6085)
        compare(rows, 'L=6085, forward', long, 384, 16, forward, parallel, '100', seconds)
        compare(rows, 'L=6085, forward + backward', long, 384, 16, forward_backward, parallel, '100', seconds)
    cross = walks.cross(128, 128)
    compare(rows, 'N=1, D=96, 128 x 128, four walks, forward', cross, 96, 1, forward, loop, '40', seconds, shared=True)
    write_tables(args.out, 'scan', 'Selective scan against its peers', about, rows)

    tables: list[dict] = []
    for side, d_state, merge, mode in product((56, 128), (1, 16), ('sum', 'none'), (forward, forward_backward)):
        compare_table(tables, side, d_state, merge, mode, seconds)
    write_tables(args.out, 'scan_tables', 'Walks given by a table against rows (D=96, four walks)', about, tables)

    lengths = []
    for length in (4096, 16384) if args.quick else (4096, 16384, 65536, 262144):
        walk = walks.rows(length)
        inputs = make_inputs(walk, 64, 16)
        timing = time_call(forward(ours, inputs, walk), seconds)
        elements = length * 64 * 16
        lengths.append({
            'L': length,
            'best, ns per element': round(timing.best * 1e9 / elements, 4),
            'median': round(timing.median * 1e9 / elements, 4),
        })  # fmt: skip
    write_tables(args.out, 'scan_lengths', 'Time per element over the length (N=16, D=64, one walk)', about, lengths)


if __name__ == '__main__':
    main()
