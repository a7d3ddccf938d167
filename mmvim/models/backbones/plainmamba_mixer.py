"""PlainMamba's token mixer."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import MakeWalks, init_scan_parameters, resolve_walks
from mmvim.ops import Walks, scan
from mmvim.ops.walks import CACHED_GRIDS, plain_tensors

# How a walk comes to a token: as to its first one or from somewhere that is no neighbour, else by one of four steps.
JUMP, RIGHT, LEFT, UP, DOWN = range(5)


@lru_cache(2 * CACHED_GRIDS)
def arrivals(walk: Walks, in_steps: bool, device: torch.device) -> Tensor:
    """How each of K walks comes to its tokens.

    Args:
        walk: K orders of S steps over L tokens.
        in_steps: Whether the answer is in the order of steps, (K, S), or of tokens, (K, L).
        device: Where it is wanted.

    Returns:
        ``JUMP``, ``RIGHT``, ``LEFT``, ``UP`` or ``DOWN`` each; ``JUMP`` where a walk does not come.
    """
    with plain_tensors():
        tokens = walk.tokens()
        rows, columns = (torch.diff(x) for x in (tokens // walk.width, tokens % walk.width))
        by = torch.zeros_like(tokens)
        for code, right, down in ((RIGHT, 1, 0), (LEFT, -1, 0), (UP, 0, -1), (DOWN, 0, 1)):
            by[:, 1:][(columns == right) & (rows == down)] = code
        by[:, 1:][(tokens[:, 1:] < 0) | (tokens[:, :-1] < 0)] = JUMP
        if not in_steps:
            spare = by.new_zeros(len(by), walk.num_tokens + 1)  # one place more, for steps without a token
            by = spare.scatter(1, tokens.where(tokens >= 0, walk.num_tokens), by)[:, :-1].contiguous()
        return by.to(device)


class ContinuousMixer(nn.Module):
    """PlainMamba's mixer: a gated Mamba block whose scans know in which direction they step.

    All walks share one set of scan parameters (https://arxiv.org/abs/2403.17695); what differs between them is a
    learned vector, one for each direction, that is added to B. Their results are added, before the gate.

    Args:
        dims: C, channels of a token.
        d_state: N, states per channel.
        d_conv: Side of the depthwise convolution's kernel, odd.
        expand: d_inner / C.
        dt_rank: R, rank of the step size; C / 16 rounded up by default.
        raster_parameters: Whether step s of each walk takes its step size, B and C from token s in raster order,
            wherever it stands.
        double_dt_bias: Whether the bias of the step size counts twice.
        walks: Orders of the tokens, see :func:`resolve_walks`.
    """

    def __init__(
        self,
        dims: int,
        d_state: int = 16,
        d_conv: int = 7,
        expand: int = 2,
        dt_rank: int | None = None,
        raster_parameters: bool = False,
        double_dt_bias: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'snake',
    ) -> None:
        super().__init__()
        if raster_parameters and walks != 'snake':
            raise UserValueError(
                "raster_parameters=True is for the published weights, whose walks are 'snake': "
                f'expected no other walks with it, got {walks!r}'
            )
        d_inner = expand * dims
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(dims / 16)
        self.raster_parameters = raster_parameters
        self.double_dt_bias = double_dt_bias
        self.walks, _ = resolve_walks(walks)
        self.in_proj = nn.Linear(dims, 2 * d_inner)
        self.conv2d = nn.Conv2d(d_inner, d_inner, d_conv, padding=d_conv // 2, groups=d_inner)
        for name, parameter in init_scan_parameters(1, d_inner, d_state, self.dt_rank).items():
            self.register_parameter(name, parameter)
        self.direction_Bs = nn.Parameter(nn.init.trunc_normal_(torch.empty(5, d_state), std=0.02))
        self.direction_Bs._no_weight_decay = True
        self.out_proj = nn.Linear(d_inner, dims)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, L, C) of a map of ``grid`` rows and columns to (B, L, C)."""
        walk = self.walks(*grid)
        x, z = self.in_proj(x).chunk(2, -1)
        # Seen by the convolution as (B, D, H, W) in channels-last memory, which it keeps.
        u = F.silu(self.conv2d(x.unflatten(1, grid).permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1, 2)
        delta, B, C = F.linear(u, self.x_proj_weight[0]).split([self.dt_rank, self.d_state, self.d_state], -1)
        directions = self.direction_Bs.to(B.dtype)[arrivals(walk, self.raster_parameters, B.device)]
        y = scan(
            u, delta, -self.A_logs.exp(), B.unsqueeze(1) + directions, C, self.Ds, walks=walk, z=z,
            delta_bias=self.dt_projs_bias * (1 + self.double_dt_bias), dt_weight=self.dt_projs_weight,
            param_order='step' if self.raster_parameters else 'token',
        )  # fmt: skip
        return self.out_proj(y)
