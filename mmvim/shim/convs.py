"""The compiled convolution, ``causal_conv1d_cuda``.

Its functions took more arguments from release to release, always by their places: how many there are says which
release the caller was written for (1.0, 1.1, 1.2 to 1.5, later).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserNotImplementedError, UserTypeError
from mmvim.ops import causal_conv1d_fn

from .steps import causal_conv1d_update


def causal_conv1d_fwd(x: Tensor, weight: Tensor, bias: Tensor | None, *rest) -> Tensor | None:
    """The convolution of x (B, D, L) with weight (D, W). Releases that bring a tensor for the result get it filled.

    ``rest`` is ``silu``; or ``seq_idx, silu``; or ``seq_idx, initial_states, final_states_out, silu``; or the same with
    ``out`` in front of ``final_states_out``.
    """
    *more, silu = rest
    if len(more) not in (0, 1, 3, 4):
        raise UserTypeError(f'causal_conv1d_fwd: expected 4, 5, 7 or 8 arguments, got {3 + len(rest)}')
    seq_idx, initial_states = (*more[:2], None, None)[:2]
    final_states_out = more[-1] if len(more) > 1 else None
    result = causal_conv1d_fn(
        x, weight, bias, seq_idx, initial_states, final_states_out is not None, final_states_out,
        'silu' if silu else None,
    )  # fmt: skip
    y = result if final_states_out is None else result[0]
    if len(more) < 4:
        return y
    more[2].copy_(y)
    return None


def causal_conv1d_bwd(x: Tensor, weight: Tensor, bias: Tensor | None, dout: Tensor, *rest) -> tuple | None:
    """Gradients of x, weight and bias; from release 1.2 on also of the initial states.

    ``rest`` is ``dx, silu``; or ``seq_idx, dx, silu``; or ``seq_idx, initial_states, dfinal_states, dx,
    return_dinitial_states, silu``; or ``seq_idx, initial_states, dfinal_states, dx, dweight, dbias, dinitial_states,
    silu``, all of which are filled. ``dx`` is filled wherever it is given.
    """
    *more, silu = rest
    if len(more) not in (1, 2, 5, 7):
        raise UserTypeError(f'causal_conv1d_bwd: expected 6, 7, 10 or 12 arguments, got {4 + len(rest)}')
    seq_idx = more[0] if len(more) > 1 else None
    initial, dfinal, dx = more[1:4] if len(more) > 3 else (None, None, more[-1])

    if seq_idx is not None:
        raise UserNotImplementedError(
            'seq_idx: several sequences in one row are not supported, pass one sequence per row'
        )
    wide = torch.promote_types(torch.float32, x.dtype)
    grads = _gradients(*(None if t is None else t.to(wide) for t in (x, weight, bias, dout, initial, dfinal)), silu)
    grads = [None if t is None else g.to(t.dtype) for g, t in zip(grads, (x, weight, bias, initial), strict=True)]
    if dx is not None:
        grads[0] = dx.copy_(grads[0])
    if len(more) < 5:
        return tuple(grads[:3])
    if len(more) == 5:
        return tuple(grads)
    for target, gradient in zip(more[4:], grads[1:], strict=True):
        if target is not None and gradient is not None:
            target.copy_(gradient)
    return None


def _gradients(x, weight, bias, dout, initial, dfinal, silu: bool) -> tuple[Tensor, ...]:
    """Of x, weight, bias and the initial states. Written out: callers that are custom operators have no autograd."""
    history, length = weight.shape[-1] - 1, x.shape[-1]
    seen = F.pad(x, (history, 0)) if initial is None else torch.cat([initial, x], -1)
    if silu:
        y = F.conv1d(seen, weight.unsqueeze(1), bias, groups=len(weight))
        gate = torch.sigmoid(y)
        dout = dout * gate * (1 + y * (1 - gate))
    dseen = F.conv_transpose1d(dout, weight.unsqueeze(1), groups=len(weight))
    if dfinal is not None:
        dseen[..., length:] += dfinal
    taps = [(dout * seen[..., tap : tap + length]).sum((0, 2)) for tap in range(history + 1)]
    return dseen[..., history:], torch.stack(taps, -1), dout.sum((0, 2)), dseen[..., :history]


def causal_conv1d_update_into(x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None, *rest):
    """``causal_conv1d_cuda.causal_conv1d_update``: the next steps of a convolution, whose state is written to.

    ``rest`` is ``silu``, then ``cache_seqlens`` and ``conv_state_indices`` from the releases on that have them, all
    behind ``out`` where the caller brings a tensor for the result.
    """
    out = rest[0] if isinstance(rest[0], Tensor) else None
    silu, *places = rest if out is None else rest[1:]
    y = causal_conv1d_update(x, conv_state, weight, bias, 'silu' if silu else None, *places)
    if out is None:
        return y
    out.copy_(y)
    return None
