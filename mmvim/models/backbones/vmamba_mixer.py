"""VMamba's token mixer."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.models.layers import MakeWalks, build_activation, init_scan_parameters, resolve_walks
from mmvim.ops import scan
from mmvim.ops.walking import walked


class SS2D(nn.Module):
    """Selective scans over a map along several walks, summed (https://arxiv.org/abs/2401.10166).

    The map stays channel-last throughout, and all walks read the same tensors in place. One matrix product gives
    the steps, B and C of all walks.

    Args:
        dims: C, channels of the map.
        ratio: D / C; D channels are scanned.
        d_state: N, states per channel.
        dt_rank: R, rank of the step size; C / 16 rounded up by default.
        gate: Whether the normed result is multiplied with SiLU of a second projection of the input.
        conv_bias: Whether the convolution has a bias.
        act: Activation behind the convolution.
        init: Initialisation of the scans, see :func:`init_scan_parameters`.
        walks: Orders of the tokens, see :func:`resolve_walks`: by default rows, columns and their reverses. Each of
            the K walks has parameters of its own.
    """

    def __init__(
        self,
        dims: int,
        ratio: float = 1.0,
        d_state: int = 1,
        dt_rank: int | None = None,
        gate: bool = False,
        conv_bias: bool = False,
        act: str = 'silu',
        init: str = 'mamba',
        walks: str | Sequence[str] | MakeWalks = 'cross',
    ) -> None:
        super().__init__()
        d_inner = int(ratio * dims)
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(dims / 16)
        self.gate = gate
        self.in_proj = nn.Linear(dims, (1 + gate) * d_inner, bias=False)
        self.conv2d = nn.Conv2d(d_inner, d_inner, 3, padding=1, groups=d_inner, bias=conv_bias)
        self.act = build_activation(act)
        self.walks, self.num_walks = resolve_walks(walks)
        for name, parameter in init_scan_parameters(self.num_walks, d_inner, d_state, self.dt_rank, init).items():
            self.register_parameter(name, parameter)
        self.out_norm = nn.LayerNorm(d_inner)
        self.out_proj = nn.Linear(d_inner, dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """A map (B, H, W, C) to (B, H, W, C)."""
        grid = x.shape[1:3]
        x = self.in_proj(x)
        if self.gate:
            x, z = x.chunk(2, -1)
        # Seen by the convolution as (B, D, H, W) in channels-last memory, which it keeps.
        u = self.act(self.conv2d(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1, 2)
        # fp32 under autocast: sums over long walks leave the range of fp16.
        y = self.out_norm(self._scanned(u, grid, self.out_norm.weight.dtype)).unflatten(1, grid)
        return self.out_proj(y * F.silu(z) if self.gate else y)

    def _scanned(self, u: Tensor, grid: tuple[int, int], dtype: torch.dtype, merge: str = 'sum') -> Tensor:
        """Tokens (B, L, D) of a map of ``grid``, scanned; ``merge`` as for :func:`mmvim.ops.scan`."""
        walk, order = self.walks(*grid), 'token'
        if walk.num_steps < walk.num_tokens:  # a product for each step is less than one for each token and walk
            u, order = walked(u.unsqueeze(1), walk, in_steps=False), 'step'
            projected = u @ self.x_proj_weight.transpose(-1, -2)
        else:
            projected = F.linear(u, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (self.num_walks, -1))
            projected = projected.transpose(1, 2)
        delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        return scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walk, u_order=order, param_order=order, merge=merge,
            out_dtype=dtype,
            delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight,
        )  # fmt: skip
