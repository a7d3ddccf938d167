"""mmvim's operators, and what exporters lack for them, written out in operators that exporters know."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.inference.runtimes import KERNELS
from mmvim.ops.conv import convolve
from mmvim.ops.form import unpack
from mmvim.ops.walking import state_dtype, unwalked, walked
from mmvim.ops.walks import Walks

from . import nodes
from .recurrence import FORMS, Recurrence


def decompositions(form: str) -> dict[torch._ops.OpOverload, Callable]:
    """What takes the place of which operator, for :meth:`torch.export.ExportedProgram.run_decompositions`.

    Args:
        form: Of the recurrence, a key of :data:`FORMS`, or :data:`~mmvim.inference.runtimes.KERNELS`.
    """
    whole = form == KERNELS
    return {
        torch.ops.mmvim.scan.default: nodes.scan if whole else _scan_by(FORMS[form]),
        torch.ops.mmvim.walk_conv.default: nodes.walk_conv if whole else _walk_conv,
        torch.ops.aten.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
    }


def _scan_by(recurrence: Recurrence) -> Callable:
    def scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        inputs, walks, form, (out_dtype, _) = unpack(arguments)
        dtype = state_dtype(inputs.u.dtype)
        u = walked(inputs.u, walks, form.u_step).to(dtype)
        delta, B, C = (walked(x, walks, form.param_step).to(dtype) for x in (inputs.delta, inputs.B, inputs.C))
        if inputs.dt_weight is not None:
            delta = delta @ inputs.dt_weight.mT
        if inputs.delta_bias is not None:
            delta = delta + inputs.delta_bias.unsqueeze(1)
        if form.delta_softplus:
            delta = F.softplus(delta)
        y = recurrence(delta, delta * u, inputs.A, B, C)
        if inputs.D is not None:
            y = y + inputs.D.unsqueeze(1) * u
        y = _back_to_tokens(y, walks)
        y = y.sum(1) if form.merge else y
        y = y if form.scale == 1 else y * form.scale
        if inputs.z is not None:
            gate = F.silu(inputs.z.to(dtype))
            y = y * (gate if form.merge else gate.unsqueeze(1))
        # Models for export ask neither for stored states nor for the last one.
        nothing = y.new_zeros(y.shape[0], walks.num_walks, y.shape[-1], inputs.A.shape[-1])
        return y.to(out_dtype), y.new_zeros(0), nothing

    return scan


def _back_to_tokens(y: Tensor, walks: Walks) -> Tensor:
    """(B, K, S, D) in walking order to (B, K, L, D), for tables by gathering, which is quicker than scattering."""
    if walks.table is None:
        return unwalked(y, walks)
    tokens = walks.tokens(y.device)
    steps = torch.arange(walks.num_steps, device=y.device).expand_as(tokens)
    # The step of each token; those that no walk visits have a step behind the last one, which is zero.
    places = tokens.where(tokens >= 0, walks.num_tokens)
    inverse = torch.full((walks.num_walks, walks.num_tokens + 1), walks.num_steps, device=y.device)
    inverse = inverse.scatter(1, places, steps)[:, :-1]
    y = F.pad(y, (0, 0, 0, 1))
    return torch.stack([y[:, k].index_select(1, order) for k, order in enumerate(inverse)], 1)


def _walk_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor | None, kinds: list[int], height: int, width: int,
    silu: bool, step: bool,
) -> Tensor:  # fmt: skip
    walks = Walks(height, width, tuple(kinds), table)
    y = convolve(walked(x.unsqueeze(1), walks, False).to(state_dtype(x.dtype)), weight, bias)
    y = F.silu(y) if silu else y
    return (y if step else _back_to_tokens(y, walks)).to(x.dtype)


def _adaptive_avg_pool2d(x: Tensor, size: list[int]) -> Tensor:
    """Means over cells of any size as two matrix products, so that the size of the image may stay open."""
    rows, columns = (_cells(side, count, x) for side, count in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.mT


def _cells(side: int, count: int, like: Tensor) -> Tensor:
    """(count, side): the weight of each place in each cell's mean."""
    cell = torch.arange(count, device=like.device).unsqueeze(1)
    place = torch.arange(side, device=like.device)
    # Integers: floor(i side / count) and ceil((i + 1) side / count), as PyTorch cuts cells.
    inside = (place >= cell * side // count) & (place < ((cell + 1) * side + count - 1) // count)
    inside = inside.to(like.dtype)
    return inside / inside.sum(1, keepdim=True)
