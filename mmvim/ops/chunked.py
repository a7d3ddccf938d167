"""The selective scan in plain PyTorch: every device, every dtype, no compiler.

Steps are taken in tiles of :data:`TILE`: what depends on no earlier step (decays, inputs) is computed for a whole tile
at once, the recurrence itself is one fused multiply-add per step. Memory beyond the inputs is that of one tile, never
(B, L, D, N). Forward leaves the state in front of every tile but the first; backward starts from these, recomputes one
tile after the other in reverse, and thus keeps N / 8 bytes per (token, channel, walk) in fp32.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .walks import Walks

TILE = 32  # steps between two stored states; the compiled kernels use the same


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """States, delta and all sums are fp32 whatever the inputs are, and fp64 for fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def num_stored_states(num_steps: int) -> int:
    """Tiles of a walk but the first, whose state is zero."""
    return (num_steps - 1) // TILE


@dataclass
class Order:
    """Gathers tensors into walking order and adds them back, for the steps [start, stop) of all K walks."""

    tokens: Tensor  # (K, S), -1 for none
    start: int
    stop: int

    def __post_init__(self):
        self.tokens = self.tokens[:, self.start : self.stop]
        self.here = (self.tokens >= 0).unsqueeze(-1)  # (K, T, 1)
        self.places = [(k, mask.squeeze(-1).nonzero().squeeze(-1)) for k, mask in enumerate(self.here)]

    def take(self, x: Tensor, in_steps: bool) -> Tensor:
        """(B, 1|K, S or L, C) to (B, K, T, C) in the state dtype; zero at steps without a token if in token order."""
        if in_steps:
            x = x[:, :, self.start : self.stop].expand(-1, len(self.tokens), -1, -1)
        else:
            walks = [x[:, k % x.shape[1], order.clamp(min=0)] for k, order in enumerate(self.tokens)]
            x = torch.stack(walks, 1).where(self.here, 0)
        return x.to(state_dtype(x.dtype))

    def add(self, out: Tensor, x: Tensor, in_steps: bool) -> None:
        """Add x (B, K, T, C) to out (B, 1|K, S or L, C): the adjoint of :meth:`take`."""
        for k, places in self.places:
            target = out[:, k % out.shape[1]]
            if in_steps:
                target[:, self.start : self.stop] += x[:, k]
            else:
                target.index_add_(1, self.tokens[k, places], x[:, k, places])


def _tile_inputs(order: Order, u, delta, B, C, delta_bias, dt_weight, delta_softplus, u_step, param_step):
    """u, delta before and after softplus, B and C of a tile, (B, K, T, D or N), and the low-rank delta where given."""
    u = order.take(u, u_step)
    low, B, C = (order.take(x, param_step) for x in (delta, B, C))
    raw = low if dt_weight is None else torch.einsum('bktr,kdr->bktd', low, dt_weight.expand(low.shape[1], -1, -1))
    if delta_bias is not None:
        raw = raw + delta_bias.unsqueeze(1)
    return u, low, raw, F.softplus(raw) if delta_softplus else raw, B, C


def _recur(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states (B, K, T, N, D) of a tile that starts in state h (B, K, N, D)."""
    decay = (delta.unsqueeze(-2) * A.mT.unsqueeze(1)).exp_()
    states = (delta * u).unsqueeze(-2) * B.unsqueeze(-1)
    for t in range(u.shape[2]):
        h = states[:, :, t].addcmul_(decay[:, :, t], h)
    return decay, states


def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    dt_weight: Tensor | None,
    walks: Walks,
    delta_softplus: bool,
    u_step: bool,
    param_step: bool,
    merge: bool,
    scale: float,
    out_dtype: torch.dtype,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``mmvim::scan`` in :mod:`mmvim.ops.library` for shapes."""
    tokens = walks.tokens(u.device)
    (num_walks, num_steps), batch, channels, d_state = tokens.shape, u.shape[0], u.shape[-1], A.shape[-1]
    kwargs = {'dtype': state_dtype(u.dtype), 'device': u.device}
    y = torch.zeros(batch, 1 if merge else num_walks, walks.num_tokens, channels, **kwargs)
    h = torch.zeros(batch, num_walks, d_state, channels, **kwargs)
    shape = (batch, num_walks, num_stored_states(num_steps), d_state, channels) if save else (0,)
    stored = torch.empty(shape, **kwargs)
    for start in range(0, num_steps, TILE):
        if save and start:
            stored[:, :, start // TILE - 1] = h
        order = Order(tokens, start, min(start + TILE, num_steps))
        u_, _, _, delta_, B_, C_ = _tile_inputs(
            order, u, delta, B, C, delta_bias, dt_weight, delta_softplus, u_step, param_step
        )
        _, states = _recur(u_, delta_, A, B_, h)
        h = states[:, :, -1]
        y_ = (C_.unsqueeze(-2) @ states).squeeze(-2)
        order.add(y, y_ if D is None else y_ + D.unsqueeze(1) * u_, False)
    y = y * scale if z is None else y * scale * F.silu(z.to(y.dtype)).unsqueeze(1)
    return (y.squeeze(1) if merge else y).to(out_dtype), stored, h.mT.contiguous()


def scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    dt_weight: Tensor | None,
    stored: Tensor,
    walks: Walks,
    delta_softplus: bool,
    u_step: bool,
    param_step: bool,
    merge: bool,
    scale: float,
) -> tuple[Tensor, ...]:
    """See ``mmvim::scan_backward`` in :mod:`mmvim.ops.library` for shapes."""
    tokens = walks.tokens(u.device)
    num_steps, dtype = tokens.shape[1], state_dtype(u.dtype)

    def zeros_like(x: Tensor | None) -> Tensor:
        return u.new_zeros(0) if x is None else torch.zeros(x.shape, dtype=dtype, device=u.device)

    du, ddelta, dA, dB, dC, dD, dz, dbias, ddt = (
        zeros_like(x) for x in (u, delta, A, B, C, D, z, delta_bias, dt_weight)
    )
    grad = grad.to(dtype) * scale
    grad = grad.unsqueeze(1) if merge else grad
    gated = grad if z is None else grad * F.silu(z.to(dtype)).unsqueeze(1)

    def add_parameter(out: Tensor, x: Tensor) -> None:
        out += x if out.shape[0] == x.shape[0] else x.sum(0, keepdim=True)

    adjoint = 0.0  # a_{t+1} g_{t+1} of the first step behind the tile
    for start in reversed(range(0, num_steps, TILE)):
        order = Order(tokens, start, min(start + TILE, num_steps))
        u_, low, raw, delta_, B_, C_ = _tile_inputs(
            order, u, delta, B, C, delta_bias, dt_weight, delta_softplus, u_step, param_step
        )
        h = stored[:, :, start // TILE - 1] if start else u_.new_zeros(*u_.shape[:2], A.shape[-1], u_.shape[-1])
        decay, states = _recur(u_, delta_, A, B_, h)
        gy = order.take(gated, False)
        if z is not None:
            y_ = (C_.unsqueeze(-2) @ states).squeeze(-2)
            y_ = y_ if D is None else y_ + D.unsqueeze(1) * u_
            order.add(dz.unsqueeze(1), order.take(grad, False) * y_, False)
        order.add(dC, (states @ gy.unsqueeze(-1)).squeeze(-1), param_step)
        g = gy.unsqueeze(-2) * C_.unsqueeze(-1)
        for t in reversed(range(u_.shape[2])):
            g[:, :, t] += adjoint
            adjoint = decay[:, :, t] * g[:, :, t]
        order.add(dB, (g @ (delta_ * u_).unsqueeze(-1)).squeeze(-1), param_step)
        through_input = (B_.unsqueeze(-2) @ g).squeeze(-2)
        order.add(du, delta_ * through_input if D is None else delta_ * through_input + D.unsqueeze(1) * gy, u_step)
        # d loss / d (delta A): the product a h, never (h - b), which cancels where b dominates.
        exponent = g.mul_(decay)
        exponent[:, :, 0] *= h
        exponent[:, :, 1:] *= states[:, :, :-1]
        draw = u_ * through_input + (exponent * A.mT.unsqueeze(1)).sum(-2)
        add_parameter(dA, exponent.mul_(delta_.unsqueeze(-2)).sum((0, 2)).mT)
        if delta_softplus:
            draw = draw * torch.sigmoid(raw)
        if D is not None:
            add_parameter(dD, torch.einsum('bktd,bktd->kd', u_, gy))
        if delta_bias is not None:
            add_parameter(dbias, draw.sum((0, 2)))
        if dt_weight is not None:
            add_parameter(ddt, torch.einsum('bktd,bktr->kdr', draw, low))
            draw = torch.einsum('bktd,kdr->bktr', draw, dt_weight.expand(len(tokens), -1, -1))
        order.add(ddelta, draw, param_step)
    if z is not None:
        gate = torch.sigmoid(z.to(dtype))
        dz = (dz * gate * (1 + z.to(dtype) * (1 - gate))).to(z.dtype)
    return du.to(u.dtype), ddelta.to(delta.dtype), dA, dB.to(B.dtype), dC.to(C.dtype), dD, dz, dbias, ddt
