"""Deformable attention over maps of several sizes: https://arxiv.org/abs/2010.04159."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError

Grids = Sequence[tuple[int, int]]


def centres(grids: Grids, like: Tensor) -> Tensor:
    """Where the tokens of maps of these rows and columns are: (x, y) between 0 and 1, (1, sum of tokens, 2)."""
    points = []
    for height, width in grids:
        y, x = ((torch.arange(side, dtype=torch.float32, device=like.device) + 0.5) / side for side in (height, width))
        points.append(torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).flatten(0, 1))
    return torch.cat(points)[None]


class DeformableAttention(nn.Module):
    """Each query looks at a few points of every map, and weighs what it sees there; both are learned.

    Args:
        dims: C, channels of queries and values.
        num_heads: Heads, which divide C.
        num_levels: Maps.
        num_points: Points in each map, for each head.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(self, dims: int, num_heads: int, num_levels: int, num_points: int = 4) -> None:
        super().__init__()
        if dims % num_heads:
            raise UserValueError(f'{num_heads} heads do not divide {dims} channels')
        self.shape = (num_heads, num_levels, num_points)
        self.sampling_offsets = nn.Linear(dims, 2 * math.prod(self.shape))
        self.attention_weights = nn.Linear(dims, math.prod(self.shape))
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Heads look in as many directions, points one step further each, all with the same weight."""
        heads, levels, points = self.shape
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1.0, points + 1)
        offsets = (directions[:, None, None] * steps[:, None]).expand(-1, levels, -1, -1)
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, places: Tensor, values: Tensor, grids: Grids) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C).
            places: Where the queries are, (1, Q, 2), see :func:`centres`.
            values: Tokens of all maps, (B, L, C).
            grids: Rows and columns of each map; L tokens in all.

        Returns:
            (B, Q, C).
        """
        heads, levels, points = self.shape
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, levels, points, 2))
        weights = self.attention_weights(query).unflatten(-1, (heads, levels * points)).softmax(-1)
        weights = weights.unflatten(-1, (levels, points))
        sides = offsets.new_tensor([[width, height] for height, width in grids])
        locations = places[:, :, None, None, None].to(offsets.dtype) + offsets / sides[:, None]
        values = self.value_proj(values).unflatten(-1, (heads, -1))
        op = compiled_op() if values.is_cuda else None
        return self.output_proj((op or sample)(values, grids, locations, weights))


def sample(values: Tensor, grids: Grids, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighed sum of values at points between the tokens, bilinear, zero outside of a map.

    Args:
        values: (B, L, heads, C / heads), the tokens of all maps.
        grids: Rows and columns of each map.
        locations: (x, y) between 0 and 1, (B, Q, heads, levels, points, 2).
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, C).
    """
    # Heads become images of a batch.
    maps = values.transpose(1, 2).flatten(0, 1).split([height * width for height, width in grids], 1)
    locations = (2 * locations - 1).to(values.dtype).transpose(1, 2).flatten(0, 1)
    weights = weights.to(values.dtype).transpose(1, 2).flatten(0, 1)[:, None]
    out = 0
    for level, (x, grid) in enumerate(zip(maps, grids, strict=True)):
        x = x.transpose(1, 2).unflatten(2, grid)
        seen = F.grid_sample(x, locations[:, :, level], align_corners=False)  # (B * heads, C / heads, Q, points)
        out = out + (seen * weights[:, :, :, level]).sum(-1)
    return out.unflatten(0, (len(values), -1)).flatten(1, 2).transpose(1, 2)


@cache
def compiled_op() -> Callable[..., Tensor] | None:
    """mmcv's operator for CUDA, called as :func:`sample` is; None where mmcv or its operators are missing."""
    if find_spec('mmcv') is None or find_spec('mmcv._ext') is None:
        return None
    from mmcv.ops import get_compiling_cuda_version
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    if get_compiling_cuda_version() == 'not available':
        return None

    def op(values: Tensor, grids: Grids, locations: Tensor, weights: Tensor) -> Tensor:
        shapes = torch.tensor(grids, device=values.device)
        sizes = shapes.prod(1)
        # It goes through a batch in equal parts of this size.
        step = math.gcd(len(values), 64)
        return MultiScaleDeformableAttnFunction.apply(
            values.contiguous(), shapes, sizes.cumsum(0) - sizes, locations.contiguous(), weights.contiguous(), step
        )

    return op
