"""Mamba's mixer behind its first projection in one call: ``mamba_inner_fn`` of mamba-ssm, and Vim's two forms of it."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from mmvim.ops import causal_conv1d_fn, selective_scan_fn

from .norms import rms_norm_fn
from .refs import causal_conv1d_ref, selective_scan_ref


def _scan_arguments(
    conv, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, d_state, B, C, B_proj_bias, C_proj_bias,
    b_rms_weight=None, c_rms_weight=None, dt_rms_weight=None, eps=1e-6,
) -> tuple[Tensor, ...]:  # fmt: skip
    """x, delta, B, C and z of the scan; B and C are projected from x unless they are given."""
    x, z = xz.chunk(2, dim=1)
    x = conv(x, conv1d_weight.squeeze(1), conv1d_bias, activation='silu')
    projected = F.linear(x.transpose(1, 2), x_proj_weight)
    delta, own_B, own_C = projected.split([delta_proj_weight.shape[1], d_state, d_state], -1)

    def prepared(given: Tensor | None, own: Tensor, bias: Tensor | None, rms_weight: Tensor | None) -> Tensor:
        if given is not None:
            return given
        own = own if bias is None else own + bias.to(own.dtype)
        return (own if rms_weight is None else rms_norm_fn(own, rms_weight, None, eps=eps)).transpose(1, 2)

    B, C = prepared(B, own_B, B_proj_bias, b_rms_weight), prepared(C, own_C, C_proj_bias, c_rms_weight)
    delta = F.linear(delta, delta_proj_weight)
    delta = delta if dt_rms_weight is None else rms_norm_fn(delta, dt_rms_weight, None, eps=eps)
    return x, delta.transpose(1, 2), B, C, z


def _mamba_inner(
    conv: Callable, scan: Callable, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight,
    out_proj_bias, A, B=None, C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True,
    **rms,
) -> Tensor:  # fmt: skip
    x, delta, B, C, z = _scan_arguments(
        conv, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A.shape[-1], B, C, B_proj_bias,
        C_proj_bias, **rms,
    )  # fmt: skip
    y = scan(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Convolution, projections, scan, gate and the last projection, with mamba-ssm's arguments.

    Args:
        xz: Branch and gate, (B, 2D, L).
        conv1d_weight: (D, 1, W).
        conv1d_bias: (D,).
        x_proj_weight: (R + 2N, D) for a step size of rank R.
        delta_proj_weight: (D, R).
        out_proj_weight: (C, D).
        out_proj_bias: (C,).
        A: (D, N), real.
        B: As of :func:`mmvim.ops.selective_scan_fn`; by default projected from the convolution's result, as C.
        C: See there.
        D: (D,).
        delta_bias: (D,).
        B_proj_bias: (N,), added to a projected B, as ``C_proj_bias`` to C.
        C_proj_bias: See there.
        delta_softplus: Whether delta goes through softplus.
        checkpoint_lvl: Has no effect on the result: what upstream computes anew in the backward pass.
        b_rms_weight: (N,), of an RMS norm of a projected B; ``c_rms_weight`` of C, ``dt_rms_weight`` (D,) of delta
            in front of its bias.
        c_rms_weight: See there.
        dt_rms_weight: See there.
        b_c_dt_rms_eps: Of these norms.

    Returns:
        (B, L, C).
    """
    return _mamba_inner(
        causal_conv1d_fn, selective_scan_fn, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight,
        out_proj_weight, out_proj_bias, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias, delta_softplus,
        b_rms_weight=b_rms_weight, c_rms_weight=c_rms_weight, dt_rms_weight=dt_rms_weight, eps=b_c_dt_rms_eps,
    )  # fmt: skip


mamba_inner_ref = partial(_mamba_inner, causal_conv1d_ref, selective_scan_ref)


def mamba_inner_fn_no_out_proj(
    xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B=None, C=None, D=None, delta_bias=None,
    B_proj_bias=None, C_proj_bias=None, delta_softplus=True, checkpoint_lvl=1,
) -> Tensor:  # fmt: skip
    """Vim's form without the last projection, (B, D, L)."""
    x, delta, B, C, z = _scan_arguments(
        causal_conv1d_fn, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A.shape[-1], B, C,
        B_proj_bias, C_proj_bias,
    )  # fmt: skip
    return selective_scan_fn(x, delta, A, B, C, D, z, delta_bias, delta_softplus)


def bimamba_inner_fn(
    xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias, A, A_b, B=None,
    C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True, checkpoint_lvl=1,
) -> Tensor:  # fmt: skip
    """Vim's first form: a second scan with ``A_b`` runs from the last step to the first, their sum is projected."""
    x, delta, B, C, z = _scan_arguments(
        causal_conv1d_fn, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A.shape[-1], B, C,
        B_proj_bias, C_proj_bias,
    )  # fmt: skip
    there = selective_scan_fn(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    # A constant B or C (D, N) has no steps to turn around.
    turned = [t.flip(-1) for t in (x, delta)] + [t.flip(-1) if t.dim() > 2 else t for t in (B, C)]
    back = selective_scan_fn(turned[0], turned[1], A_b, turned[2], turned[3], D, z.flip(-1), delta_bias, delta_softplus)
    return F.linear((there + back.flip(-1)).transpose(1, 2), out_proj_weight, out_proj_bias)
