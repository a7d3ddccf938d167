"""Generation token by token: ``selective_state_update`` of mamba-ssm and ``causal_conv1d_update`` of causal-conv1d.

Both write the state that they are given. Gradients reach what comes out, and not earlier steps through the state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserValueError
from mmvim.ops import causal_conv1d_fn


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """One step of the selective scan, with the arguments of mamba-ssm's function of the same name.

    Mamba-2's form has an axis of H heads behind the batch, in everything but B and C, which have G groups there.

    Args:
        state: (B[, H], D, N), overwritten; computed with in fp32 (fp64) and rounded to its dtype when written.
        x: (B[, H], D).
        dt: As x.
        A: ([H,] D, N).
        B: (B[, G], N).
        C: As B.
        D: ([H,] D).
        z: Gate, as x: the result is multiplied with silu(z).
        dt_bias: ([H,] D), added to dt.
        dt_softplus: Whether dt goes through softplus, after its bias.
        state_batch_indices: (B,), the rows of ``state`` that belong to the rows of x; by default the same ones.

    Returns:
        y, in the shape and dtype of x.

    Raises:
        ValueError: If shapes do not fit.
    """
    rows = state if state_batch_indices is None else state[state_batch_indices]
    if state.dim() not in (3, 4) or rows.shape[:-1] != x.shape or dt.shape != x.shape:
        shapes = ', '.join(str(tuple(t.shape)) for t in (rows, x, dt))
        raise UserValueError(f'state, x and dt: expected (B[, H], D, N), (B[, H], D) and the same, got {shapes}')
    wide = torch.promote_types(torch.float32, x.dtype)
    u, dt, A, B, C = (t.to(wide) for t in (x, dt, A, B, C))
    if state.dim() == 4:  # every head takes the B and C of its group
        B, C = (t.repeat_interleave(x.shape[1] // t.shape[1], 1) for t in (B, C))
    dt = dt if dt_bias is None else dt + dt_bias.to(wide)
    dt = F.softplus(dt) if dt_softplus else dt
    after = rows.to(wide) * torch.exp(dt.unsqueeze(-1) * A) + (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    with torch.no_grad():
        if state_batch_indices is None:
            state.copy_(after)
        else:
            state[state_batch_indices] = after.to(state.dtype)
    y = (after * C.unsqueeze(-2)).sum(-1)
    y = y if D is None else y + D.to(wide) * u
    y = y if z is None else y * F.silu(z.to(wide))
    return y.to(x.dtype)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """The next steps of a causal convolution, with the arguments of causal-conv1d's function of the same name.

    Args:
        x: (B, D), or (B, D, S) for S steps.
        conv_state: (B, D, W - 1 or more), the latest inputs, overwritten.
        weight: (D, W).
        bias: (D,).
        activation: ``None``, ``'silu'`` or ``'swish'`` (the same).
        cache_seqlens: (B,), how many inputs each row has had: ``conv_state`` is a ring, and the next one goes to that
            place modulo its length. By default the state moves along instead.
        conv_state_indices: (B,), the rows of ``conv_state`` that belong to the rows of x; by default the same ones.

    Returns:
        y, in the shape and dtype of x.

    Raises:
        ValueError: If shapes do not fit.
    """
    new = x.unsqueeze(-1) if x.dim() == 2 else x
    history, length = weight.shape[-1] - 1, conv_state.shape[-1]
    if length < history:
        raise UserValueError(f'conv_state: expected at least {history} inputs, got {length}')
    rows = conv_state if conv_state_indices is None else conv_state[conv_state_indices]
    if rows.shape[:2] != new.shape[:2]:
        shapes = f'{tuple(rows.shape)} and {tuple(x.shape)}'
        raise UserValueError(f'conv_state and x: expected (B, D, {history} or more) and (B, D[, S]), got {shapes}')
    if cache_seqlens is None:
        seen = rows[..., length - history :]
        after = torch.cat([rows, new.to(rows.dtype)], -1)[..., -length:]
    else:
        start = cache_seqlens.long().view(-1, 1, 1)
        behind, ahead = (
            ((start + torch.arange(*span, device=x.device)) % length).expand(-1, new.shape[1], -1)
            for span in ((-history, 0), (0, new.shape[-1]))
        )
        seen, after = rows.gather(2, behind), rows.scatter(2, ahead, new.detach().to(rows.dtype))
    y = causal_conv1d_fn(new, weight, bias, initial_states=seen.clone(), activation=activation)
    with torch.no_grad():
        if conv_state_indices is None:
            conv_state.copy_(after)
        else:
            conv_state[conv_state_indices] = after
    return y.squeeze(-1) if x.dim() == 2 else y
