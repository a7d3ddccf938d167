"""The selective scan in plain PyTorch: every device, every dtype, no compiler.

Steps are taken in chunks of 32. What depends on no earlier step (decays, inputs) is computed for whole chunks at once,
the recurrence itself is one fused multiply-add per step. Where a step has little to compute, as with one state per
channel, C chunks run side by side: first each from a state of zero, then a recurrence over the chunks gives the state
in front of each, with which the first is run again. The decay over a chunk is the exponential of a sum over its steps:
nothing is divided, and nothing grows that does not grow along the walk. Infinity and NaN, which a decay over 32 steps
that underflows would treat otherwise than 32 decays, make the chunks run one after the other.

Memory beyond inputs, results and stored states is that of C = max(1, 8192 // (B K N D)) chunks: at most 2 tensors
of ``32 C B K N D`` elements and 8 of ``32 C B K D`` in the forward pass, 4 and 12 in the backward pass, never
(B, L, D, N). Forward leaves the state in front of every chunk but the first; backward starts from these, recomputes
one group of chunks after the other in reverse, and thus keeps N / 8 bytes per (token, channel, walk) in fp32.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .form import Form, Tensors
from .walking import TILE, Order, num_stored_states, state_dtype
from .walks import Walks

SIDE_BY_SIDE = 8192  # elements of a step over all chunks beside each other: with fewer, calls cost more than sums


def _groups(num_steps: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Start, stop and number of the chunks that run side by side; a last one that is shorter runs alone.

    Args:
        num_steps: S.
        width: B * K * N * D, elements of a step.
    """
    whole, most = num_steps // TILE, max(1, SIDE_BY_SIDE // max(1, width))
    for first in range(0, whole, most):
        chunks = min(most, whole - first)
        yield first * TILE, (first + chunks) * TILE, chunks
    if whole * TILE < num_steps:
        yield whole * TILE, num_steps, 1


def _group_inputs(order: Order, inputs: Tensors, form: Form) -> tuple[Tensor, ...]:
    """u, delta before and after softplus, B, C of a group, (B, K, T * C, D or N), and delta as it was given."""
    u = order.take(inputs.u, form.u_step)
    low, B, C = (order.take(x, form.param_step) for x in (inputs.delta, inputs.B, inputs.C))
    weight = inputs.dt_weight
    raw = low if weight is None else torch.einsum('bktr,kdr->bktd', low, weight.expand(low.shape[1], -1, -1))
    if inputs.delta_bias is not None:
        raw = raw + inputs.delta_bias.unsqueeze(1)
    return u, low, raw, F.softplus(raw) if form.delta_softplus else raw, B, C


def _decays(delta: Tensor, A_t: Tensor, chunks: int) -> tuple[Tensor, Tensor]:
    """Of every step, (B, K, T, C, N, D), and over whole chunks, (B, K, C, N, D).

    Args:
        delta: (B, K, T * C, D).
        A_t: (1|K, 1, N, D).
        chunks: C.
    """
    each = (delta.unsqueeze(-2) * A_t).exp_().unflatten(2, (-1, chunks))
    return each, (delta.unflatten(2, (-1, chunks)).sum(2).unsqueeze(-2) * A_t).exp_()


def _over_states(weights: Tensor, x: Tensor) -> Tensor:
    """Sums over states: (..., N) and (..., N, D) to (..., D). For one state there is nothing to sum."""
    return weights * x.squeeze(-2) if x.shape[-2] == 1 else (weights.unsqueeze(-2) @ x).squeeze(-2)


def _recur(
    weights: Sequence[Tensor], xs: Sequence[Tensor], h: Tensor, total: Tensor, leaving: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``xs[t] += weights[t] * xs[t - 1]``, in place, of C chunks side by side.

    Args:
        weights: T of (B, K, C, N, D).
        xs: As weights.
        h: (B, K, N, D), what enters the first chunk in the place of ``xs[-1]``.
        total: (B, K, C, N, D), what becomes of 1 that enters a chunk until it enters the next one.
        leaving: What the last ``xs`` is multiplied with when it enters the next chunk, (B, K, C, N, D). If given, the
            chunks come in reverse: the last is entered first.

    Returns:
        What enters every chunk, (B, K, C, N, D), and what leaves the last one, (B, K, N, D).
    """
    step = 1 if leaving is None else -1

    def along(last: Tensor, in_place: bool, chunks: slice = slice(None)) -> Tensor:
        for weight, x in zip(weights, xs, strict=True):
            x, weight = x[:, :, chunks], weight[:, :, chunks]
            last = x.addcmul_(weight, last) if in_place else torch.addcmul(x, weight, last)
        return last if leaving is None else last * leaving[:, :, chunks]

    count = total.shape[2]
    entering = [h.unsqueeze(2)]
    if count > 1:
        left = along(torch.zeros_like(h).unsqueeze(2), in_place=False)
        for factor, x in zip(total.split(1, 2)[::step], left.split(1, 2)[::step], strict=True):
            entering.append(torch.addcmul(x, factor, entering[-1]))
        if not torch.cat(entering, 2).isfinite().all():
            entering = entering[:1]
            for chunk in range(count)[::step]:
                entering.append(along(entering[-1], True, slice(chunk, chunk + 1)))
            return torch.cat(entering[:-1][::step], 2), entering[-1].squeeze(2)
    entering = torch.cat(entering[:count][::step], 2)
    return entering, along(entering, in_place=True)[:, :, -1 if step == 1 else 0]


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
    A_t = A.mT.contiguous().unsqueeze(1)
    for start, stop, chunks in _groups(num_steps, h.numel()):
        order = Order(tokens, start, stop, chunks)
        u_, _, _, delta, B, C = _group_inputs(order, inputs, form)
        decay, total = _decays(delta, A_t, chunks)
        states = (delta * u_).unsqueeze(-2) * B.unsqueeze(-1)
        entering, h = _recur(decay.unbind(2), states.unflatten(2, (-1, chunks)).unbind(2), h, total)
        if save:  # the first state is zero and not kept
            first = start // TILE
            stored[:, :, max(first - 1, 0) : first - 1 + chunks] = entering[:, :, first == 0 :]
        y_ = _over_states(C, states)
        order.add(y, y_ if D is None else y_.addcmul_(D.unsqueeze(1), u_), False)
    y = y.mul_(form.scale)
    y = y if z is None else y.mul_(F.silu(z.to(y.dtype)).unsqueeze(1))
    return (y.squeeze(1) if form.merge else y).to(out_dtype), stored, h.mT.contiguous()


def scan_backward(
    grad: Tensor, inputs: Tensors, stored: Tensor, walks: Walks, form: Form, wanted: Sequence[bool]
) -> tuple[Tensor, ...]:
    """See ``mmvim::scan_backward`` in :mod:`mmvim.ops.library` for shapes; no elements where none are ``wanted``."""
    u, A, D, z, dt_weight = inputs.u, inputs.A, inputs.D, inputs.z, inputs.dt_weight
    tokens = walks.tokens(u.device)
    (num_walks, num_steps), dtype = tokens.shape, state_dtype(u.dtype)
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

    A_t = A.mT.contiguous().unsqueeze(1)
    adjoint = torch.zeros(u.shape[0], num_walks, A.shape[-1], u.shape[-1], dtype=dtype, device=u.device)
    front = adjoint.unsqueeze(2)  # in front of the first step
    for start, stop, chunks in reversed([*_groups(num_steps, adjoint.numel())]):
        order = Order(tokens, start, stop, chunks)
        u_, low, raw, delta, B, C = _group_inputs(order, inputs, form)
        first = start // TILE
        entering = stored[:, :, max(first - 1, 0) : first - 1 + chunks]
        entering = entering if first else torch.cat([front, entering], 2)
        decay, total = _decays(delta, A_t, chunks)
        driven = delta * u_
        states = (driven.unsqueeze(-2) * B.unsqueeze(-1)).unflatten(2, (-1, chunks))
        h = entering
        for weight, x in zip(decay.unbind(2), states.unbind(2), strict=True):
            h = x.addcmul_(weight, h)
        flat = states.flatten(2, 3)
        gy = order.take(gated, False)
        if sums.z is not None:
            y_ = _over_states(C, flat)
            y_ = y_ if D is None else y_ + D.unsqueeze(1) * u_
            order.add(sums.z.unsqueeze(1), order.take(grad, False) * y_, False)
        if sums.C is not None:
            order.add(sums.C, (flat @ gy.unsqueeze(-1)).squeeze(-1), form.param_step)
        g = gy.unsqueeze(-2) * C.unsqueeze(-1)
        by_chunk = g.unflatten(2, (-1, chunks))
        # What reaches a step from behind is the gradient of the next state times the next decay; what leaves a chunk
        # is multiplied with that of its first step already.
        one = decay.new_ones(()).expand_as(total)
        first_decay, *others = decay.unbind(2)
        _, adjoint = _recur([one, *reversed(others)], by_chunk.unbind(2)[::-1], adjoint, total, first_decay)
        if sums.B is not None:
            order.add(sums.B, (g @ driven.unsqueeze(-1)).squeeze(-1), form.param_step)
        through_input = _over_states(B, g)
        if sums.u is not None:
            du = delta * through_input
            order.add(sums.u, du if D is None else du.addcmul_(D.unsqueeze(1), gy), form.u_step)
        if sums.D is not None:
            add_parameter(sums.D, torch.einsum('bktd,bktd->kd', u_, gy))
        if all(x is None for x in (sums.A, sums.delta, sums.delta_bias, sums.dt_weight)):
            continue
        # d loss / d (delta A): the product a h, never (h - b), which cancels where b dominates.
        exponent = by_chunk.mul_(decay)
        exponent[:, :, 0] *= entering
        exponent[:, :, 1:] *= states[:, :, :-1]
        draw = (g * A_t).sum(-2).addcmul_(u_, through_input)
        if sums.A is not None:
            add_parameter(sums.A, g.mul_(delta.unsqueeze(-2)).sum((0, 2)).mT)
        if form.delta_softplus:
            draw *= torch.sigmoid(raw)
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
