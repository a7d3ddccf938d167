"""Vim's token mixer."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.models.layers import init_scan_parameters
from mmvim.ops import scan, walk_conv, walks


class BidirectionalMixer(nn.Module):
    """Vim's mixer: a gated Mamba block whose scan runs over the sequence forward and backward.

    Each direction has its own convolution and scan parameters; the projections in and out and the gate are shared. The
    results of the directions are added, before the projection out. Both read the sequence in place: nothing is flipped.

    Args:
        dims: C, channels of a token.
        d_state: N, states per channel.
        d_conv: W, taps of the causal convolution.
        expand: d_inner / C.
        dt_rank: R, rank of the step size; C / 16 rounded up by default.
        average: Whether the sum of the two directions is halved.
    """

    def __init__(
        self,
        dims: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        average: bool = True,
    ) -> None:
        super().__init__()
        d_inner = expand * dims
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(dims / 16)
        self.scale = 0.5 if average else 1.0
        self.in_proj = nn.Linear(dims, 2 * d_inner, bias=False)
        self.conv1d_weight = nn.Parameter(torch.empty(2, d_inner, d_conv).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.conv1d_bias = nn.Parameter(torch.empty(2, d_inner).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.conv1d_bias._no_weight_decay = True
        for name, parameter in init_scan_parameters(2, d_inner, d_state, self.dt_rank).items():
            self.register_parameter(name, parameter)
        self.out_proj = nn.Linear(d_inner, dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to (B, L, C)."""
        walk = walks.bidirectional(x.shape[1])
        into_scan, into_gate = self.in_proj.weight.chunk(2)
        # The gate comes last, so that it and the input of the convolution are not in memory at the same time.
        u = walk_conv(F.linear(x, into_scan), self.conv1d_weight, self.conv1d_bias, walks=walk)  # (B, 2, L, d_inner)
        projected = u @ self.x_proj_weight.transpose(-1, -2)
        delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        y = scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walk, z=F.linear(x, into_gate),
            delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight, scale=self.scale,
        )  # fmt: skip
        return self.out_proj(y)
