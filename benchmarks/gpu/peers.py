"""Time mamba-ssm's and causal-conv1d's kernels at the shapes of Vim and VMamba, beside ours in the same run.

    MMVIM_PEERS=folder python benchmarks/gpu/peers.py

MMVIM_PEERS is a folder with both source packages (.tar.gz or unpacked); what is needed of them is compiled first.
Around their kernels stands what the official models do: Vim flips the sequence and runs every step twice, VMamba copies
the map along its four directions and adds the results. Nothing is timed whose numbers differ from ours.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from bench import DTYPE, label, size_of
from common import Report, need_kernels, parse, relative_error
from peer_sources import MissingPeers, build, find_sources
from timing import copies, eager, graphed
from torch import Tensor
from work import QUICK, SHAPES, Shape, mixer_weights, scan_arguments, ss2d_core, vim_path

from mmvim.ops import scan
from mmvim.ops.mamba import causal_conv1d_fn, selective_scan_fn

GOALS = {
    ('Vim-S, 512', 8, 'scan, forward'): '4x',
    ('Vim-S, 512', 8, 'scan, forward + backward'): '3x',
    ('Vim-S, 1248', 8, 'path, forward'): '3x',
    ('VMamba-T, 1280 x 800, stage 1', 1, 'path, forward'): '2.5x',
    ('VMamba-T, 1280 x 800, stage 2', 1, 'path, forward'): '2.5x',
    ('VMamba-T, 1280 x 800, stage 1', 16, 'path, forward'): '2.5x',
    ('VMamba-T, 1280 x 800, stage 2', 16, 'path, forward'): '2.5x',
}


class Kernels:
    """The two packages' kernels, in their own layout (B, D, L)."""

    def __init__(self, scans: ModuleType, convolutions: ModuleType) -> None:
        self.scans, self.convolutions = scans, convolutions
        # Since 1.5 the result is handed in.
        self.out_of_place = (convolutions.causal_conv1d_fwd.__doc__ or '').count('arg') == 7

    def scan(self, *arguments: Any) -> Tensor:
        """u, delta, A, B, C, D, z, delta_bias to the result, gated if there is a z."""
        out, _, *gated = self.scans.fwd(*arguments, True)
        return gated[0] if gated else out

    def scan_and_gradients(self, grad: Tensor, *arguments: Any) -> list[Tensor]:
        """The same, and its backward pass."""
        out, states, *_ = self.scans.fwd(*arguments, True)
        return self.scans.bwd(*arguments, grad, states, out, None, True, False)

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Causal convolution and SiLU."""
        if self.out_of_place:
            return self.convolutions.causal_conv1d_fwd(x, weight, bias, None, None, None, True)
        out = torch.empty_like(x)
        self.convolutions.causal_conv1d_fwd(x, weight, bias, None, None, out, None, True)
        return out


class Imitation:
    """The same interface on our own operators, for dry runs."""

    def scan(self, *arguments: Any) -> Tensor:
        return selective_scan_fn(*arguments, delta_softplus=True)

    def scan_and_gradients(self, grad: Tensor, *arguments: Any) -> list[Tensor]:
        leaves = [None if x is None else x.detach().requires_grad_() for x in arguments]
        return list(torch.autograd.grad(self.scan(*leaves), [x for x in leaves if x is not None], grad))

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return causal_conv1d_fn(x, weight, bias, activation='silu')


def official_scan_arguments(case: dict[str, Any], shape: Shape) -> list[tuple]:
    """Arguments of their kernel for the same numbers: a call for each direction (Vim), or one with groups (VMamba)."""
    projected = torch.einsum('bktr,kdr->bkdt', case['delta'].float(), case['dt_weight']).to(case['delta'].dtype)
    walk = case['walks'].tokens(projected.device)
    B, C = (case[key].transpose(2, 3) for key in ('B', 'C'))
    if shape.gate:
        calls = []
        for k, order in enumerate(walk):
            u, delta, b, c, z = (
                x[..., order].contiguous()
                for x in (case['u'][:, k].transpose(1, 2), projected[:, k], B[:, k : k + 1], C[:, k : k + 1],
                          case['z'].transpose(1, 2))
            )  # fmt: skip
            calls.append((u, delta, case['A'][k], b, c, case['D'][k], z, case['delta_bias'][k]))
        return calls
    u = case['u'].transpose(1, 2)[..., walk].transpose(1, 2).flatten(1, 2).contiguous()  # (B, 4 D, L)
    delta, B, C = (torch.stack([x[:, k, :, o] for k, o in enumerate(walk)], 1) for x in (projected, B, C))
    return [(u, delta.flatten(1, 2), case['A'].flatten(0, 1), B, C, case['D'].flatten(), None,
             case['delta_bias'].flatten())]  # fmt: skip


def back(calls: list[Tensor], case: dict[str, Any], shape: Shape) -> Tensor:
    """Results of their calls, summed, as ours has them."""
    walk = case['walks'].tokens(calls[0].device)
    apart = calls if shape.gate else calls[0].unflatten(1, (len(walk), -1)).unbind(1)
    total = 0.0
    for y, order in zip(apart, walk, strict=True):
        total = total + torch.empty_like(y).index_copy_(-1, order, y).float()
    return total.transpose(1, 2) * case['scale']


def official_vim(kernels: Any, xz: Tensor, case: dict[str, Any], weights: dict[str, Tensor]) -> Tensor:
    """From convolution to gate as official Vim composes it: xz (B, 2 D, L) to (B, D, L)."""
    rank, states, length = case['dt_weight'].shape[-1], case['A'].shape[-1], xz.shape[-1]
    sides = []
    for k in range(2):
        x, z = (xz.flip(-1) if k else xz).chunk(2, 1)
        u = kernels.conv(x, weights['conv'][k], weights['conv_bias'][k])
        rows = F.linear(u.transpose(1, 2).reshape(-1, u.shape[1]), weights['x_proj'][k])
        low, B, C = rows.split([rank, states, states], -1)
        delta = (case['dt_weight'][k].to(low.dtype) @ low.t()).unflatten(1, (-1, length)).transpose(0, 1)
        B, C = (part.unflatten(0, (-1, length)).transpose(1, 2).unsqueeze(1).contiguous() for part in (B, C))
        y = kernels.scan(u, delta, case['A'][k], B, C, case['D'][k], z, case['delta_bias'][k])
        sides.append(y.flip(-1) if k else y)
    return (sides[0] + sides[1]) * case['scale']


def official_ss2d(kernels: Any, x: Tensor, case: dict[str, Any], weights: dict[str, Tensor]) -> Tensor:
    """From the copies to their sum as official VMamba composes it: x (B, D, H, W) to (B, D, H * W)."""
    rank, states, (height, width) = case['dt_weight'].shape[-1], case['A'].shape[-1], x.shape[2:]
    xs = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], 1)
    xs = torch.cat([xs, xs.flip(-1)], 1)
    rows = torch.einsum('bkdl,kcd->bkcl', xs, weights['x_proj'])
    low, B, C = rows.split([rank, states, states], 2)
    delta = torch.einsum('bkrl,kdr->bkdl', low, case['dt_weight'].to(low.dtype))
    y = kernels.scan(
        xs.flatten(1, 2), delta.flatten(1, 2).contiguous(), case['A'].flatten(0, 1), B.contiguous(), C.contiguous(),
        case['D'].flatten(), None, case['delta_bias'].flatten(),
    ).unflatten(1, (4, -1))  # fmt: skip
    y = y[:, :2] + y[:, 2:].flip(-1)
    return y[:, 0] + y[:, 1].unflatten(-1, (width, height)).transpose(2, 3).flatten(2)


def compare(report: Report, device: str, shape: Shape, what: str, ours: Callable, theirs: Callable) -> None:
    """One row: both timed as a graph and eager, each over sets of inputs that take turns."""
    number = copies(size_of(scan_arguments(shape, device, DTYPE)), device, 8)
    speeds = []
    for make in (ours, theirs):
        calls = [make(seed) for seed in range(number)]
        speeds.append((graphed(calls, device, limit=2.0), eager(calls, device, limit=2.0)))
        del calls
        if device == 'cuda':
            torch.cuda.empty_cache()
    (mine, mine_eager), (other, other_eager) = speeds
    row = {'what': what, 'shape': label(shape)}
    if mine and other:
        row |= {'ours, graph, us': round(1e6 * mine.median, 1), 'theirs, graph, us': round(1e6 * other.median, 1),
                'times as fast': round(other.median / mine.median, 2),
                'spread': f'{mine.spread}, {other.spread}'}  # fmt: skip
    row['times as fast, eager'] = round(other_eager.median / mine_eager.median, 2)
    report.add('peers', **row, goal=GOALS.get((shape.name, shape.batch, what), ''))


def bench(report: Report, shape: Shape, kernels: Any, device: str) -> None:
    """All rows of a shape, each behind a comparison of numbers."""
    weights = mixer_weights(shape, device, DTYPE)

    def arguments(seed: int) -> tuple[dict[str, Any], list[tuple]]:
        case = scan_arguments(shape, device, DTYPE, seed)
        return case, official_scan_arguments(case, shape)

    def x_of(seed: int) -> Tensor:
        g = torch.Generator(device).manual_seed(seed)
        size = shape.batch, shape.walks.num_tokens, shape.channels
        return torch.randn(*size, generator=g, device=device).to(DTYPE)

    def our_path(seed: int, case: dict[str, Any]) -> Tensor:
        return (vim_path if shape.gate else ss2d_core)(x_of(seed), case, weights)

    def their_path(x: Tensor, case: dict[str, Any]) -> Callable[[], Tensor]:
        if shape.gate:
            xz = torch.cat([x, case['z']], -1).transpose(1, 2).contiguous()
            return torch.no_grad()(lambda: official_vim(kernels, xz, case, weights))
        grid = x.transpose(1, 2).unflatten(2, (shape.walks.height, shape.walks.width)).contiguous()
        return torch.no_grad()(lambda: official_ss2d(kernels, grid, case, weights))

    case, calls = arguments(0)
    _same('scan', back([kernels.scan(*call) for call in calls], case, shape), scan(**case))
    _same('path', their_path(x_of(0), case)().transpose(1, 2), our_path(0, case))

    def our_scan(seed: int) -> Callable:
        case = scan_arguments(shape, device, DTYPE, seed)
        return torch.no_grad()(lambda: scan(**case))

    def their_scan(seed: int) -> Callable:
        calls = arguments(seed)[1]
        return torch.no_grad()(lambda: [kernels.scan(*call) for call in calls])

    def our_gradients(seed: int) -> Callable:
        case = scan_arguments(shape, device, DTYPE, seed)
        leaves = {key: x.detach().requires_grad_() for key, x in case.items() if isinstance(x, Tensor)}
        grad = x_of(seed)
        return lambda: torch.autograd.grad(scan(**{**case, **leaves}), list(leaves.values()), grad)

    def their_gradients(seed: int) -> Callable:
        calls = arguments(seed)[1]
        grads = [torch.randn_like(call[0]) for call in calls]
        return lambda: [kernels.scan_and_gradients(grad, *call) for grad, call in zip(grads, calls, strict=True)]

    def our_whole(seed: int) -> Callable:
        case, x = scan_arguments(shape, device, DTYPE, seed), x_of(seed)
        return torch.no_grad()(lambda: (vim_path if shape.gate else ss2d_core)(x, case, weights))

    compare(report, device, shape, 'scan, forward', our_scan, their_scan)
    compare(report, device, shape, 'scan, forward + backward', our_gradients, their_gradients)
    compare(report, device, shape, 'path, forward', our_whole,
            lambda seed: their_path(x_of(seed), scan_arguments(shape, device, DTYPE, seed)))  # fmt: skip


def _same(what: str, theirs: Tensor, ours: Tensor) -> None:
    error = relative_error(theirs.detach(), ours.detach())
    if not error < 2e-2:
        raise ValueError(f'{what}: the results differ by {error:.1e}, nothing was timed')


def main() -> None:
    args = parse(__doc__)
    need_kernels(args.device)
    report = Report('peers', args.device, args.minutes)
    with tempfile.TemporaryDirectory(prefix='mmvim-peers-', ignore_cleanup_errors=True) as scratch:
        if args.device == 'cpu':
            kernels: Any = Imitation()
        else:
            try:
                folders = find_sources(os.environ.get('MMVIM_PEERS'), Path(scratch))
            except MissingPeers as problem:
                report.add('peers', note=str(problem))
                sys.exit(2)
            modules = []
            for module, folder in folders.items():
                start = time.perf_counter()
                modules.append(build(module, folder, Path(scratch)))
                seconds = round(time.perf_counter() - start)
                report.add('compiled', module=module, sources=folder.parents[module[0] == 's'].name, seconds=seconds)
            kernels = Kernels(*modules)
        for shape in QUICK if args.quick or args.device == 'cpu' else SHAPES:
            if report.left() < 30:
                report.add('peers', shape=label(shape), note='left out: no time left')
                continue
            try:
                bench(report, shape, kernels, args.device)
            except (RuntimeError, ValueError) as error:  # of their code or ours: the other shapes go on
                report.add('peers', shape=label(shape), note=str(error).splitlines()[0][:160])


if __name__ == '__main__':
    main()
