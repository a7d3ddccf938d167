"""The norms that mamba-ssm has as Triton kernels, ``mamba_ssm.ops.triton.layer_norm`` (``layernorm`` before 2.0).

The sum of a block's branch and the residual, then its norm, both in fp32 (fp64).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserNotImplementedError


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Norm of x + residual, with the arguments of mamba-ssm's function of the same name.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        residual: As x, maybe of another dtype.
        x1: Must be None, as ``weight1`` and ``bias1``: no second branch.
        weight1: See there.
        bias1: See there.
        eps: Added to the variance.
        dropout_p: Share of x that is dropped, before the sum.
        rowscale: (...), multiplied with x before that.
        prenorm: Whether to return the sum as well.
        residual_in_fp32: Whether the sum is returned in fp32 where there is no residual that says its dtype.
        is_rms_norm: Whether the mean is left in.
        return_dropout_mask: Must be False.

    Returns:
        The norm (..., C) in the dtype of x; with ``prenorm`` also the sum (..., C).

    Raises:
        NotImplementedError: If a second branch or the mask is asked for.
    """
    if return_dropout_mask or any(t is not None for t in (x1, weight1, bias1)):
        raise UserNotImplementedError(
            'mmvim.shim does not cover x1, weight1, bias1 and return_dropout_mask of layer_norm_fn: call it once each'
        )
    wide = torch.promote_types(torch.float32, x.dtype)
    total = x.to(wide)
    if rowscale is not None:
        total = total * rowscale.unsqueeze(-1)
    total = F.dropout(total, dropout_p)
    if residual is not None:
        total = total + residual
    shape, weight, bias = total.shape[-1:], weight.to(wide), None if bias is None else bias.to(wide)
    if is_rms_norm:
        y = F.rms_norm(total, shape, weight, eps)
        y = y if bias is None else y + bias
    else:
        y = F.layer_norm(total, shape, weight, bias, eps)
    if not prenorm:
        return y.to(x.dtype)
    like = residual if residual is not None else x
    return y.to(x.dtype), total.to(torch.float32 if residual is None and residual_in_fp32 else like.dtype)


def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`layer_norm_fn` with the mean left in."""
    return layer_norm_fn(
        x, weight, bias, residual, x1, weight1, bias1, eps, dropout_p, rowscale, prenorm, residual_in_fp32, True,
        return_dropout_mask,
    )  # fmt: skip


class RMSNorm(nn.Module):
    """RMS norm of x + residual, with mamba-ssm's arguments and names of parameters.

    Args:
        hidden_size: Number of channels.
        eps: Added to the mean square.
        dropout_p: Share of x that is dropped in training, before the sum.
        device: Of the weight.
        dtype: Of the weight.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-5, dropout_p: float = 0.0, device=None, dtype=None):
        super().__init__()
        self.eps = eps
        self.drop = nn.Dropout(dropout_p) if dropout_p > 0 else None
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter('bias', None)

    def reset_parameters(self) -> None:
        """Ones."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor, residual: Tensor | None = None, prenorm: bool = False, residual_in_fp32: bool = False):
        """As :func:`rms_norm_fn`."""
        dropout_p = self.drop.p if self.drop is not None and self.training else 0.0
        return rms_norm_fn(
            x, self.weight, self.bias, residual, eps=self.eps, dropout_p=dropout_p, prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )  # fmt: skip
