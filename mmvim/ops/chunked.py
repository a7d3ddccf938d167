"""The selective scan in plain PyTorch: every device, every dtype, no compiler.

Steps are taken in tiles of 32: what depends on no earlier step (decays, inputs) is computed for a whole tile
at once, the recurrence itself is one fused multiply-add per step. Memory beyond the inputs is that of one tile, never
(B, L, D, N). Forward leaves the state in front of every tile but the first; backward starts from these, recomputes one
tile after the other in reverse, and thus keeps N / 8 bytes per (token, channel, walk) in fp32.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .form import Form, Tensors
from .walking import TILE, Order, num_stored_states, state_dtype
from .walks import Walks


def _tile_inputs(order: Order, inputs: Tensors, form: Form) -> tuple[Tensor, ...]:
    """u, delta before and after softplus, B and C of a tile, (B, K, T, D or N), and the low-rank delta where given."""
    u = order.take(inputs.u, form.u_step)
    low, B, C = (order.take(x, form.param_step) for x in (inputs.delta, inputs.B, inputs.C))
    weight = inputs.dt_weight
    raw = low if weight is None else torch.einsum('bktr,kdr->bktd', low, weight.expand(low.shape[1], -1, -1))
    if inputs.delta_bias is not None:
        raw = raw + inputs.delta_bias.unsqueeze(1)
    return u, low, raw, F.softplus(raw) if form.delta_softplus else raw, B, C


def _recur(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states (B, K, T, N, D) of a tile that starts in state h (B, K, N, D)."""
    decay = (delta.unsqueeze(-2) * A.mT.unsqueeze(1)).exp_()
    states = (delta * u).unsqueeze(-2) * B.unsqueeze(-1)
    for t in range(u.shape[2]):
        h = states[:, :, t].addcmul_(decay[:, :, t], h)
    return decay, states


def scan_forward(
    inputs: Tensors, walks: Walks, form: Form, out_dtype: torch.dtype, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``mmvim::scan`` in :mod:`mmvim.ops.library` for shapes."""
    u, A, D, z = inputs.u, inputs.A, inputs.D, inputs.z
    tokens = walks.tokens(u.device)
    (num_walks, num_steps), batch, channels, d_state = tokens.shape, u.shape[0], u.shape[-1], A.shape[-1]
    kwargs = {'dtype': state_dtype(u.dtype), 'device': u.device}
    y = torch.zeros(batch, 1 if form.merge else num_walks, walks.num_tokens, channels, **kwargs)
    h = torch.zeros(batch, num_walks, d_state, channels, **kwargs)
    shape = (batch, num_walks, num_stored_states(num_steps), d_state, channels) if save else (0,)
    stored = torch.empty(shape, **kwargs)
    for start in range(0, num_steps, TILE):
        if save and start:
            stored[:, :, start // TILE - 1] = h
        order = Order(tokens, start, min(start + TILE, num_steps))
        u_, _, _, delta, B, C = _tile_inputs(order, inputs, form)
        _, states = _recur(u_, delta, A, B, h)
        h = states[:, :, -1]
        y_ = (C.unsqueeze(-2) @ states).squeeze(-2)
        order.add(y, y_ if D is None else y_ + D.unsqueeze(1) * u_, False)
    y = y * form.scale if z is None else y * form.scale * F.silu(z.to(y.dtype)).unsqueeze(1)
    return (y.squeeze(1) if form.merge else y).to(out_dtype), stored, h.mT.contiguous()


def scan_backward(
    grad: Tensor, inputs: Tensors, stored: Tensor, walks: Walks, form: Form, wanted: Sequence[bool]
) -> tuple[Tensor, ...]:
    """See ``mmvim::scan_backward`` in :mod:`mmvim.ops.library` for shapes; no elements where none are ``wanted``."""
    u, A, D, z, dt_weight = inputs.u, inputs.A, inputs.D, inputs.z, inputs.dt_weight
    tokens = walks.tokens(u.device)
    num_steps, dtype = tokens.shape[1], state_dtype(u.dtype)
    sums = Tensors(
        *(
            torch.zeros(x.shape, dtype=dtype, device=u.device) if want and x is not None else None
            for x, want in zip(inputs, wanted, strict=True)
        )
    )
    grad = grad.to(dtype) * form.scale
    grad = grad.unsqueeze(1) if form.merge else grad
    gated = grad if z is None else grad * F.silu(z.to(dtype)).unsqueeze(1)

    def add_parameter(out: Tensor, x: Tensor) -> None:
        out += x if out.shape[0] == x.shape[0] else x.sum(0, keepdim=True)

    adjoint = 0.0  # a_{t+1} g_{t+1} of the first step behind the tile
    for start in reversed(range(0, num_steps, TILE)):
        order = Order(tokens, start, min(start + TILE, num_steps))
        u_, low, raw, delta, B, C = _tile_inputs(order, inputs, form)
        h = stored[:, :, start // TILE - 1] if start else u_.new_zeros(*u_.shape[:2], A.shape[-1], u_.shape[-1])
        decay, states = _recur(u_, delta, A, B, h)
        gy = order.take(gated, False)
        if sums.z is not None:
            y_ = (C.unsqueeze(-2) @ states).squeeze(-2)
            y_ = y_ if D is None else y_ + D.unsqueeze(1) * u_
            order.add(sums.z.unsqueeze(1), order.take(grad, False) * y_, False)
        if sums.C is not None:
            order.add(sums.C, (states @ gy.unsqueeze(-1)).squeeze(-1), form.param_step)
        g = gy.unsqueeze(-2) * C.unsqueeze(-1)
        for t in reversed(range(u_.shape[2])):
            g[:, :, t] += adjoint
            adjoint = decay[:, :, t] * g[:, :, t]
        if sums.B is not None:
            order.add(sums.B, (g @ (delta * u_).unsqueeze(-1)).squeeze(-1), form.param_step)
        through_input = (B.unsqueeze(-2) @ g).squeeze(-2)
        if sums.u is not None:
            du = delta * through_input
            order.add(sums.u, du if D is None else du + D.unsqueeze(1) * gy, form.u_step)
        if sums.D is not None:
            add_parameter(sums.D, torch.einsum('bktd,bktd->kd', u_, gy))
        if all(x is None for x in (sums.A, sums.delta, sums.delta_bias, sums.dt_weight)):
            continue
        # d loss / d (delta A): the product a h, never (h - b), which cancels where b dominates.
        exponent = g.mul_(decay)
        exponent[:, :, 0] *= h
        exponent[:, :, 1:] *= states[:, :, :-1]
        draw = u_ * through_input + (exponent * A.mT.unsqueeze(1)).sum(-2)
        if sums.A is not None:
            add_parameter(sums.A, exponent.mul_(delta.unsqueeze(-2)).sum((0, 2)).mT)
        if form.delta_softplus:
            draw = draw * torch.sigmoid(raw)
        if sums.delta_bias is not None:
            add_parameter(sums.delta_bias, draw.sum((0, 2)))
        if sums.dt_weight is not None:
            add_parameter(sums.dt_weight, torch.einsum('bktd,bktr->kdr', draw, low))
        if sums.delta is not None:
            if dt_weight is not None:
                draw = torch.einsum('bktd,kdr->bktr', draw, dt_weight.expand(len(tokens), -1, -1))
            order.add(sums.delta, draw, form.param_step)
    if sums.z is not None:
        gate = torch.sigmoid(z.to(dtype))
        sums = sums._replace(z=sums.z * gate * (1 + z.to(dtype) * (1 - gate)))
    # The parameters are in the dtype of the state already.
    return tuple(u.new_zeros(0) if x is None else x.to(like.dtype) for x, like in zip(sums, inputs, strict=True))
