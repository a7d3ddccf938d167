"""The ``*_ref`` functions of mamba-ssm and causal-conv1d: plain PyTorch, step by step, to compare kernels with.

Deliberately without :mod:`mmvim.ops`: a script that checks a kernel against its reference would compare it with itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserTypeError


def selective_scan_ref(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
) -> Tensor | tuple[Tensor, Tensor]:
    """As :func:`mmvim.ops.selective_scan_fn`, in fp32 (fp64), one step after the other."""
    if A.is_complex():
        raise UserTypeError('A is complex: complex states are not supported, A must be real')
    wide = torch.promote_types(torch.float32, u.dtype)
    x, delta, A, B, C = (t.to(wide) for t in (u, delta, A, B, C))
    delta = delta if delta_bias is None else delta + delta_bias.to(wide).unsqueeze(-1)
    delta = F.softplus(delta) if delta_softplus else delta

    def at(t: Tensor, step: int) -> Tensor:  # (1|B, 1|D, N)
        if t.dim() == 2:
            return t.unsqueeze(0)
        if t.dim() == 3:
            return t[..., step].unsqueeze(1)
        return t[..., step].repeat_interleave(x.shape[1] // t.shape[1], 1)

    state, outputs = x.new_zeros(*x.shape[:2], A.shape[1]), []
    for step in range(x.shape[-1]):
        dt = delta[..., step, None]
        state = torch.exp(dt * A) * state + dt * at(B, step) * x[..., step, None]
        outputs.append((state * at(C, step)).sum(-1))
    y = torch.stack(outputs, -1)
    y = y if D is None else y + D.to(wide).unsqueeze(-1) * x
    y = (y if z is None else y * F.silu(z.to(wide))).to(u.dtype)
    return (y, state) if return_last_state else y


def causal_conv1d_ref(
    x, weight, bias=None, initial_states=None, return_final_states=False, final_states_out=None, activation=None
) -> Tensor | tuple[Tensor, Tensor]:
    """As :func:`mmvim.ops.causal_conv1d_fn`, by :func:`torch.nn.functional.conv1d`."""
    history = weight.shape[-1] - 1
    front = x.new_zeros(*x.shape[:2], history) if initial_states is None else initial_states.to(x.dtype)
    seen = torch.cat([front, x], -1)
    y = F.conv1d(seen.to(weight.dtype), weight.unsqueeze(1), bias, groups=len(weight))
    y = (y if activation is None else F.silu(y)).to(x.dtype)
    if not return_final_states:
        return y
    final_states = seen[..., seen.shape[-1] - history :]
    return y, final_states if final_states_out is None else final_states_out.copy_(final_states)
