"""The judge of every other implementation: the selective scan as its formula says, one step after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .walks import Walks


def scan_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, *, walks: Walks,
    z: Tensor | None = None, delta_bias: Tensor | None = None, delta_softplus: bool = True,
    dt_weight: Tensor | None = None, u_order: str = 'token', param_order: str = 'token', merge: str = 'sum',
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Arguments, shapes and maths of :func:`mmvim.ops.scan`; everything is computed in the dtype of the arguments.

    Returns:
        y, (B, L, D) or (B, K, L, D), and the last state (B, K, D, N). Differentiable by autograd.
    """
    order = walks.tokens(u.device)  # (K, S)
    here = order >= 0

    def along(x: Tensor, token_order: bool) -> Tensor:
        """(B[, 1|K], T, C) to (B, K, S, C) in walking order, zero at a step without a token."""
        x = (x if x.dim() == 4 else x.unsqueeze(1)).expand(-1, len(order), -1, -1)
        if not token_order:
            return x
        index = order.clamp(min=0)[None, :, :, None].expand(len(x), -1, -1, x.shape[-1])
        return x.gather(2, index).where(here[..., None], 0)

    u = along(u, u_order == 'token')
    delta, B, C = (along(x, param_order == 'token') for x in (delta, B, C))
    if dt_weight is not None:
        delta = (delta.unsqueeze(-2) * dt_weight[:, None]).sum(-1)
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    h = u.new_zeros(len(u), len(order), u.shape[-1], A.shape[-1])
    ys = []
    for s in range(order.shape[1]):
        h = torch.exp(delta[:, :, s, :, None] * A) * h + (delta[:, :, s] * u[:, :, s])[..., None] * B[:, :, s, None]
        ys.append((h * C[:, :, s, None]).sum(-1))
    y = torch.stack(ys, 2)
    y = y if D is None else y + D[:, None] * u
    # One spare place behind the last token takes what steps without a token would write.
    index = order.where(here, walks.num_tokens)[None, :, :, None].expand_as(y)
    y = y.new_zeros(*y.shape[:2], walks.num_tokens + 1, y.shape[-1]).scatter(2, index, y)[:, :, :-1] * scale
    y = y.sum(1) if merge == 'sum' else y
    return y if z is None else y * F.silu(z if merge == 'sum' else z.unsqueeze(1)), h
