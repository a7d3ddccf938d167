"""The causal depthwise convolution along walks in plain PyTorch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .walking import Order, state_dtype
from .walks import Walks


def _shifted(x: Tensor, width: int) -> list[Tensor]:
    """x (B, K, S, D) as every tap sees it: tap j at step s reads step s - (width - 1 - j), zeros before the first."""
    padded = F.pad(x, (0, 0, width - 1, 0))
    return [padded[:, :, j : j + x.shape[2]] for j in range(width)]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    taps = zip(_shifted(x, weight.shape[-1]), weight.unbind(-1), strict=True)
    y = sum(tap * w.unsqueeze(1) for tap, w in taps)
    return y if bias is None else y + bias.unsqueeze(1)


def _whole(x: Tensor, walks: Walks) -> Order:
    return Order(walks.tokens(x.device), 0, walks.num_steps)


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor | None, walks: Walks, silu: bool, step: bool) -> Tensor:
    """See ``mmvim::walk_conv`` in :mod:`mmvim.ops.library` for shapes."""
    order = _whole(x, walks)
    y = convolve(order.take(x.unsqueeze(1), False), weight, bias)
    y = F.silu(y) if silu else y
    if step:
        return y.to(x.dtype)
    out = torch.zeros(len(x), walks.num_walks, *x.shape[1:], dtype=y.dtype, device=x.device)
    order.add(out, y, False)
    return out.to(x.dtype)


def conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    walks: Walks,
    silu: bool,
    step: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``mmvim::walk_conv_backward`` in :mod:`mmvim.ops.library`; no elements where none are ``wanted``."""
    order, width = _whole(x, walks), weight.shape[-1]
    walked = order.take(x.unsqueeze(1), False)
    grad = order.take(grad, step)
    if silu:
        y = convolve(walked, weight, bias)
        gate = torch.sigmoid(y)
        grad = grad * gate * (1 + y * (1 - gate))
    dx, dweight, dbias = x.new_zeros(0), weight.new_zeros(0), weight.new_zeros(0)
    if wanted[0]:
        # The adjoint of a causal convolution runs against the walk with the taps in reverse.
        dwalked = convolve(grad.flip(2), weight, None).flip(2)
        dx = torch.zeros(x.shape, dtype=state_dtype(x.dtype), device=x.device)
        order.add(dx.unsqueeze(1), dwalked, False)
    if wanted[1]:
        dweight = torch.stack([(tap * grad).sum((0, 2)) for tap in _shifted(walked, width)], -1)
    if wanted[2] and bias is not None:
        dbias = grad.sum((0, 2))
    return dx.to(x.dtype), dweight, dbias
