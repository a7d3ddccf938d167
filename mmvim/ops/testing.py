"""Random arguments for the scans, and the comparison of results and all gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmvim.ops import Walks
from mmvim.ops.backends import has_kernels

# tools/emulate_cuda.sh puts the CUDA kernels, run on the host, in the place of those for the CPU. They know no float64.
EMULATED = has_kernels('cpu') and 'emulated' in torch.ops.mmvim.cpu_capability()
# Every test of an operator runs on plain PyTorch, and on the compiled kernels where they are.
BACKENDS = ['cpu'] if EMULATED else ['torch', *(['cpu'] if has_kernels('cpu') else [])]
WIDE = torch.float32 if EMULATED else torch.float64  # what cases are made of by default
LEAST_TOLERANCE = 1e-5 if EMULATED else 0.0
STEP = 0.1 if EMULATED else 1.0  # without softplus delta may be negative: states grow, and float32 has its limits
TENSORS = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias', 'dt_weight')


def scan_case(
    walks: Walks,
    *,
    batch: int = 2,
    channels: int = 5,
    d_state: int = 3,
    rank: int | None = None,
    per_walk: bool = True,
    own_parameters: bool = True,
    u_order: str = 'token',
    param_order: str = 'token',
    merge: str = 'sum',
    z: bool = False,
    D: bool = True,
    delta_bias: bool = True,
    delta_softplus: bool = True,
    scale: float = 1.0,
    dtype: torch.dtype = WIDE,
    seed: int = 0,
) -> dict[str, Any]:
    """Arguments of ``mmvim.ops.scan``.

    Args:
        rank: R of a low-rank delta; ``None`` for one of full rank.
        per_walk: Whether u, delta, B and C have an axis of walks.
        own_parameters: Whether every walk has its own A, D, bias and projection, or all share one.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    count = walks.num_walks if own_parameters else 1
    axis = (walks.num_walks,) if per_walk else ()
    u_length = walks.num_steps if u_order == 'step' else walks.num_tokens
    length = walks.num_steps if param_order == 'step' else walks.num_tokens
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        'u': normal(batch, *axis, u_length, channels),
        'delta': normal(batch, *axis, length, rank or channels) * 0.5 * STEP,
        'A': -torch.rand(count, channels, d_state, generator=generator, dtype=weights) * 2,
        'B': normal(batch, *axis, length, d_state),
        'C': normal(batch, *axis, length, d_state),
        'D': normal(count, channels).to(weights) if D else None,
        'walks': walks,
        'z': normal(batch, walks.num_tokens, channels) if z else None,
        'delta_bias': normal(count, channels).to(weights) * STEP if delta_bias else None,
        'delta_softplus': delta_softplus,
        'dt_weight': normal(count, channels, rank).to(weights) if rank else None,
        'u_order': u_order,
        'param_order': param_order,
        'merge': merge,
        'scale': scale,
    }


def results(function: Callable, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
    """Call ``function``; its output, and the gradient of a fixed random functional of it for every tensor argument."""
    leaves = {
        name: x.detach().clone().requires_grad_()
        for name, x in arguments.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    y = function(**{**arguments, **leaves}, **kwargs)
    y = y[0] if isinstance(y, tuple) else y
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(weights.to(y.dtype))
    return {'y': y.detach(), **{f'd{name}': leaf.grad for name, leaf in leaves.items()}}


def relative_error(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm of ``want``; infinite where ``got`` is not finite or the shapes differ."""
    if got.shape != want.shape or not got.isfinite().all():
        return float('inf')
    return ((got.double() - want.double()).norm() / want.double().norm().clamp(min=1e-30)).item()


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float, gradients: float = 1.0) -> None:
    """Assert that all results agree: ``tolerance`` relative for y, ``gradients`` times that for the gradients."""
    assert got.keys() == want.keys()
    errors = {name: relative_error(got[name], want[name]) for name in want}
    tolerance = max(tolerance, LEAST_TOLERANCE)
    allowed = {name: tolerance * (1 if name == 'y' else gradients) for name in want}
    assert all(errors[name] <= allowed[name] for name in want), errors
