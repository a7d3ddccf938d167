"""The compiled scans: ``selective_scan_cuda`` of mamba-ssm, ``selective_scan_cuda_core`` and ``_oflex`` of VMamba.

The backward passes run the scan a second time rather than keep its states.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.ops import selective_scan_fn
from mmvim.ops.mamba import in_layout_of, scan_unrounded


def mamba_fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus, out_dtype=None) -> list[Tensor]:
    """[y, x], and the gated y if there is z; x (B, D, 1, 2N) has the last state at its odd places, as mamba-ssm's."""
    y, state = scan_unrounded(u, delta, A, B, C, D, None, delta_bias, delta_softplus)
    y = in_layout_of(u, y)
    x = torch.stack([torch.zeros_like(state), state], -1).flatten(2).unsqueeze(2)
    gated = [] if z is None else [(y * F.silu(z.to(y.dtype))).to(u.dtype)]
    return [y.to(out_dtype or u.dtype), x, *gated]


def _backward(u, delta, A, B, C, D, z, delta_bias, dout, delta_softplus) -> tuple[list[Tensor | None], Tensor]:
    """Gradients of the eight tensors, None where they are None, and the result that they belong to."""
    inputs = [None if t is None else t.detach().requires_grad_() for t in (u, delta, A, B, C, D, z, delta_bias)]
    with torch.enable_grad():
        y = selective_scan_fn(inputs[0].to(dout.dtype), *inputs[1:], delta_softplus)
    grads = iter(torch.autograd.grad(y, [t for t in inputs if t is not None], dout))
    return [None if t is None else next(grads) for t in inputs], y.detach()


def mamba_bwd(u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute_out_z):
    """Gradients of u, delta, A, B, C, D and delta_bias, then of z, and the gated result if it is asked for."""
    (*grads, dz_, dbias), y = _backward(u, delta, A, B, C, D, z, delta_bias, dout, delta_softplus)
    dz = dz_ if dz is None or dz_ is None else dz.copy_(dz_)
    return [*grads, dbias, *([] if z is None else [dz]), *([y] if recompute_out_z else [])]


def vmamba_fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, nrows, out_float=False) -> list[Tensor]:
    """[y, x]; y has the dtype of u, or fp32 where VMamba's second kernel is asked for that."""
    out_dtype = torch.promote_types(u.dtype, torch.float32) if out_float else u.dtype
    return mamba_fwd(u, delta, A, B, C, D, None, delta_bias, delta_softplus, out_dtype)


def vmamba_bwd(u, delta, A, B, C, D, delta_bias, dout, x, delta_softplus, nrows) -> list[Tensor | None]:
    """Gradients of u, delta, A, B, C, D and delta_bias."""
    return mamba_bwd(u, delta, A, B, C, D, None, delta_bias, dout, x, None, None, delta_softplus, False)
