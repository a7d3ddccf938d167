"""Normalisation layers that PyTorch lacks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm over the last axis; on a CPU, where torch has no kernel for it, in fewer passes over x.

    The result has the dtype of the weight: behind a residual stream in fp32 a model in bf16 goes on in bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu':
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * torch.rsqrt(norm.square() / x.shape[-1] + self.eps) * self.weight).to(self.weight.dtype)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W), at each place on its own."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)
