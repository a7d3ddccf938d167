"""Vim's token mixer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmvim.models.layers import MakeWalks, init_scan_parameters, resolve_walks
from mmvim.ops import scan, walk_conv


class BidirectionalMixer(nn.Module):
    """Vim's mixer: a gated Mamba block whose scan runs over the sequence forward and backward, or along other walks.

    Each walk has its own convolution and scan parameters; the projections in and out and the gate are shared. The
    results of the walks are added, before the projection out. All read the sequence in place: nothing is flipped.

    Args:
        dims: C, channels of a token.
        d_state: N, states per channel.
        d_conv: W, taps of the causal convolution.
        expand: d_inner / C.
        dt_rank: R, rank of the step size; C / 16 rounded up by default.
        average: Whether the sum of the K walks is divided by K.
        walks: Orders of the tokens, see :func:`resolve_walks`.
    """

    def __init__(
        self,
        dims: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        average: bool = True,
        walks: str | Sequence[str] | MakeWalks = 'bidirectional',
    ) -> None:
        super().__init__()
        d_inner = expand * dims
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(dims / 16)
        self.walks, num_walks = resolve_walks(walks)
        self.scale = 1 / num_walks if average else 1.0
        self.in_proj = nn.Linear(dims, 2 * d_inner, bias=False)
        bound = d_conv**-0.5
        self.conv1d_weight = nn.Parameter(torch.empty(num_walks, d_inner, d_conv).uniform_(-bound, bound))
        self.conv1d_bias = nn.Parameter(torch.empty(num_walks, d_inner).uniform_(-bound, bound))
        self.conv1d_bias._no_weight_decay = True
        for name, parameter in init_scan_parameters(num_walks, d_inner, d_state, self.dt_rank).items():
            self.register_parameter(name, parameter)
        self.out_proj = nn.Linear(d_inner, dims, bias=False)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Tokens (B, L, C) of a map of ``grid`` rows and columns, by default one row, to (B, L, C)."""
        walk = self.walks(*(grid or (1, x.shape[1])))
        x, z = self.in_proj(x).chunk(2, -1)
        u = walk_conv(x, self.conv1d_weight, self.conv1d_bias, walks=walk)  # (B, K, L, d_inner)
        projected = u @ self.x_proj_weight.transpose(-1, -2)
        delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        y = scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walk, z=z,
            delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight, scale=self.scale,
        )  # fmt: skip
        return self.out_proj(y)
