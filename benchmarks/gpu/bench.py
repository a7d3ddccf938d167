"""Time scans, convolution, mixers and whole backbones on the GPU at hand.

    python benchmarks/gpu/bench.py [--only scans conv mixers backbones]

Medians of at least 50 runs (fewer, but at least 5, of what takes long) over inputs larger than twice the L2 cache, on
random data; "graph" is one CUDA graph of all inputs in turn, "eager" includes the host. Floors: floor.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from backbones import bench_backbones
from common import Report, need_kernels, parse
from floor import Ceilings, Floor, ceilings, conv_floor, scan_floor
from timing import Call, Speed, copies, eager, graphed
from torch import Tensor
from work import QUICK, SHAPES, Shape, mixer_weights, scan_arguments, ss2d_core, vim_path

from mmvim.ops import scan, walk_conv

DTYPE = torch.bfloat16


def call_of(function: Callable[..., Tensor], arguments: dict[str, Any], backward: bool) -> Call:
    """A forward pass, or a forward and backward pass with gradients of all tensors."""
    if not backward:
        return torch.no_grad()(lambda: function(**arguments))
    leaves = {
        key: x.detach().requires_grad_()
        for key, x in arguments.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    arguments = {**arguments, **leaves}
    with torch.no_grad():
        grad = torch.randn_like(function(**arguments))
    return lambda: torch.autograd.grad(function(**arguments), list(leaves.values()), grad)


def size_of(arguments: dict[str, Any]) -> int:
    """Bytes of all tensors."""
    return sum(x.numel() * x.element_size() for x in arguments.values() if isinstance(x, Tensor))


def compare(report: Report, table: str, name: str, device: str, make: Callable[[int], dict[str, Any]],
            ours: Callable[..., Tensor], plain: Callable[..., Tensor], floor: Callable[[dict, bool], Floor | None],
            ) -> None:  # fmt: skip
    """Rows of a forward and of a forward and backward pass: ours, eager and as a graph, and the PyTorch path."""
    for backward in (False, True):
        if report.left() < 20:
            report.add(table, what=name, note='left out: the time of the phase is used up')
            return
        try:
            first = make(0)
            sets = [first, *(make(seed) for seed in range(1, copies(size_of(first), device)))]
            calls = [call_of(ours, arguments, backward) for arguments in sets]
            with_host, alone = eager(calls, device), graphed(calls, device)
            other = eager([call_of(plain, first, backward)], device, limit=1.0, fewest=1)
        except torch.OutOfMemoryError:
            report.add(table, what=name, note='does not fit into the memory')
            return
        best = alone or with_host
        least = floor(first, backward)
        report.add(
            table,
            what=name,
            **{'pass': 'forward + backward' if backward else 'forward'},
            **{'graph, us': '' if alone is None else round(1e6 * alone.median, 1), 'eager, us': _us(with_host)},
            spread=best.spread,
            **{'PyTorch path, eager, us': _us(other), 'ratio': f'{other.median / with_host.median:.1f}'},
            **_floor_columns(least, best),
        )
        del sets, calls
        if device == 'cuda':
            torch.cuda.empty_cache()


def _us(speed: Speed) -> float:
    return round(1e6 * speed.median, 1)


def _floor_columns(floor: Floor | None, speed: Speed) -> dict[str, Any]:
    if floor is None:
        return {}
    return {
        'floor of memory, us': round(1e6 * floor.memory, 1),
        'floor of special functions, us': round(1e6 * floor.special, 1),
        'share of the floor reached': floor.share(speed.median),
    }


def label(shape: Shape) -> str:
    """A shape for tables."""
    grid = shape.walks.num_tokens if shape.gate else f'{shape.walks.height} x {shape.walks.width}'
    return f'{shape.name}: B {shape.batch}, L {grid}, D {shape.channels}, N {shape.states}'


def bench_scans(report: Report, shapes: tuple[Shape, ...], device: str, card: Ceilings) -> None:
    for shape in shapes:
        compare(report, 'scans', label(shape), device, lambda seed, s=shape: scan_arguments(s, device, DTYPE, seed),
                scan, lambda **a: scan(**a, backend='torch'),
                lambda case, backward: scan_floor(case, card, backward))  # fmt: skip


def bench_conv(report: Report, shapes: tuple[Shape, ...], device: str, card: Ceilings) -> None:
    for shape in (shape for shape in shapes if shape.gate):
        weights = mixer_weights(shape, device, DTYPE)

        def make(seed: int, shape: Shape = shape, weights: dict = weights) -> dict[str, Any]:
            x = torch.randn(shape.batch, shape.walks.num_tokens, shape.channels, device=device).to(DTYPE)
            return {'x': x, 'weight': weights['conv'], 'bias': weights['conv_bias'], 'walks': shape.walks}

        compare(report, 'convolution with SiLU, two walks', label(shape), device, make, walk_conv,
                lambda **a: walk_conv(**a, backend='torch'),
                lambda case, backward: conv_floor(case['x'], case['walks'].num_walks, card, backward))  # fmt: skip


def bench_mixers(report: Report, shapes: tuple[Shape, ...], device: str) -> None:
    for shape in shapes:
        path = vim_path if shape.gate else ss2d_core
        weights = mixer_weights(shape, device, DTYPE)
        if not shape.gate:
            weights = {'x_proj': weights['x_proj']}

        def make(seed: int, shape: Shape = shape, weights: dict = weights) -> dict[str, Any]:
            case = scan_arguments(shape, device, DTYPE, seed)
            kept = {key: case[key] for key in ('A', 'D', 'z', 'delta_bias', 'dt_weight')}
            x = torch.randn(shape.batch, shape.walks.num_tokens, shape.channels, device=device).to(DTYPE)
            return {'x': x, **kept, **weights, 'walks': shape.walks, 'scale': case['scale']}

        def run(backend: str, path: Callable = path, names: tuple = tuple(weights), **a: Any) -> Tensor:
            x, own = a.pop('x'), {name: a.pop(name) for name in names}
            return path(x, a, own, backend)

        name = "mixers: Vim from convolution to gate, VMamba's SS2D from projection to sum"
        compare(report, name, label(shape), device, make, lambda run=run, **a: run('auto', **a),
                lambda run=run, **a: run('torch', **a), lambda *_: None)  # fmt: skip


def main() -> None:
    args = parse(__doc__)
    need_kernels(args.device)
    report = Report('bench', args.device, args.minutes)
    card = ceilings(args.device)
    report.about['ceilings'] = (
        f'{card.bytes / 1e12:.2f} TB/s, {card.special / 1e12:.2f}e12 special functions/s: {card.source}'
    )
    shapes = QUICK if args.quick or args.device == 'cpu' else SHAPES
    parts = {
        'scans': lambda: bench_scans(report, shapes, args.device, card),
        'backbones': lambda: bench_backbones(report, args.device, args.quick or args.device == 'cpu'),
        'mixers': lambda: bench_mixers(report, shapes, args.device),
        'conv': lambda: bench_conv(report, shapes, args.device, card),
    }
    for name, part in parts.items():
        if not args.only or name in args.only:
            part()


if __name__ == '__main__':
    main()
