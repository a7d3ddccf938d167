"""Results of the operators beside the fp64 reference: outputs and the gradients of all tensors."""

from collections.abc import Callable
from typing import Any

import torch
from common import on, relative_error, scan_case
from torch import Tensor

from mmvim.ops import Walks, scan, walk_conv
from mmvim.ops.reference import scan_reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
PARAMETERS = ('dA', 'dD', 'ddelta_bias', 'ddt_weight', 'dweight', 'dbias')  # sums over up to 1e5 terms, in fp32
SHORT = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
Row = dict[str, Any]


def name_of(options: dict[str, Any]) -> str:
    """A case in words."""
    words = []
    for key, value in options.items():
        if isinstance(value, Walks):
            kinds = value.kinds if value.table is None else f'table {tuple(value.table.shape)}'
            value = f'{value.height} x {value.width} {kinds}'
        words.append(f'{key} {SHORT.get(value, value)}')
    return ', '.join(words)


def evaluate(
    function: Callable, arguments: dict[str, Any], layout: Callable[[Tensor], Tensor] | None = None, ones: bool = False
) -> dict[str, Tensor]:
    """Output, and the gradient of a fixed functional of it for every tensor, whose strides are kept.

    Args:
        function: Operator.
        arguments: Of the operator.
        layout: Puts the gradient of the output somewhere else in memory.
        ones: Whether the output is just added up.
    """
    leaves = {
        key: x.detach().requires_grad_()
        for key, x in arguments.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    y = function(**{**arguments, **leaves})
    if isinstance(y, tuple):
        y = y[0]
    if ones:
        weights = torch.ones_like(y)
    else:
        # Quarters: the same numbers in every dtype.
        weights = torch.randint(-8, 9, y.shape, generator=torch.Generator().manual_seed(1)).to(y.device, y.dtype) / 4
    grads = torch.autograd.grad(y, list(leaves.values()), layout(weights) if layout else weights)
    return {'y': y.detach(), **{f'd{key}': g for key, g in zip(leaves, grads, strict=True)}}


def exact(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same numbers in fp64."""
    return {
        key: x.double().contiguous() if isinstance(x, Tensor) and x.is_floating_point() else x
        for key, x in arguments.items()
    }


def conv_reference(x: Tensor, weight: Tensor, bias: Tensor | None, *, walks: Walks, **options: Any) -> Tensor:
    """Plain PyTorch in fp64, which the tests hold to the formula."""
    return walk_conv(x, weight, bias, walks=walks, **options, backend='torch')


def compare(what: str, got: dict, want: dict, dtype: torch.dtype, factor: float = 1.0) -> Row:
    """A row that says whether all results agree, and which is worst."""
    worst, margin, error = '', -1.0, 0.0
    for key in want:
        allowed = TOLERANCE[dtype] * factor * (1 if key == 'y' else 3)
        if key in PARAMETERS:
            allowed = max(allowed, 1e-4)
        found = relative_error(got[key], want[key])
        if found / allowed > margin:
            worst, margin, error = key, found / allowed, found
    return {'case': what, 'ok': margin <= 1, 'worst': worst, 'error': f'{error:.1e}', 'of allowed': f'{margin:.2g}'}


def check_scan(device: str, options: dict[str, Any], factor: float = 1.0) -> Row:
    """One random case of a scan."""
    options = {'dtype': torch.float32, **options}
    dtype = options['dtype']
    arguments = on(device, scan_case(**options))
    if not options.get('delta_softplus', True):
        # Steps of both signs, but so small that states do not grow beyond what fp32 can follow.
        for key in ('delta', 'delta_bias', 'dt_weight'):
            arguments[key] = None if arguments[key] is None else 0.05 * arguments[key]
    want = evaluate(scan_reference, exact(arguments))
    return compare(name_of(options), evaluate(scan, arguments), want, dtype, factor)


def check_conv(device: str, walk: Walks, channels: int, taps: int, dtype: torch.dtype, bias: bool = True,
               **options: Any) -> Row:  # fmt: skip
    """One random case of a convolution."""
    g = torch.Generator().manual_seed(0)
    arguments = {
        'x': torch.randn(2, walk.num_tokens, channels, generator=g).to(dtype),
        'weight': torch.randn(walk.num_walks, channels, taps, generator=g),
        'bias': torch.randn(walk.num_walks, channels, generator=g) if bias else None,
        'walks': walk,
        **options,
    }
    arguments = on(device, arguments)
    want = evaluate(conv_reference, exact(arguments))
    what = {'walks': walk, 'channels': channels, 'taps': taps, 'dtype': dtype, 'bias': bias, **options}
    return compare(name_of(what), evaluate(walk_conv, arguments), want, dtype)
