"""LocalVMamba's token mixer."""

from typing import Any

import torch
from torch import Tensor

from mmvim.models.layers import DirectionAttention, read_columns_as_rows

from .vmamba_mixer import SS2D


class LocalSS2D(SS2D):
    """The gated SS2D along directions of LocalMamba (https://arxiv.org/abs/2403.09338), weighted before they are added.

    Args:
        dims: C, channels of the map.
        directions: Names of K directions, see :func:`mmvim.ops.walks.local`.
        legacy_reverse: Whether results along columns come back as in the authors' code, see
            :func:`~mmvim.models.layers.read_columns_as_rows`.
        options: Further arguments of :class:`SS2D`.
    """

    def __init__(self, dims: int, directions: tuple[str, ...], legacy_reverse: bool = False, **options: Any) -> None:
        super().__init__(dims, gate=True, conv_bias=True, walks=directions, **options)
        self.directions, self.legacy_reverse = directions, legacy_reverse
        self.attn = DirectionAttention(self.out_proj.in_features)

    def _scanned(self, u: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> Tensor:
        y = super()._scanned(u, grid, dtype, merge='none')
        if self.legacy_reverse:
            y = read_columns_as_rows(y, self.directions, grid)
        return self.attn(y)
