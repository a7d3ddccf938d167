"""Backbones of one resolution: patches of the image, and blocks over their sequence."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmvim.models.layers import PatchEmbed, PositionEmbedding, fit_pos_embed

from .base import Backbone


class PlainBackbone(Backbone):
    """Tokens of patches with a learned position each, through blocks of one width.

    Args:
        embed_dims (int): C, channels of a token.
        depth (int): Number of blocks.
        out_indices (int | Sequence[int]): Blocks whose output is returned; those behind the last are not computed.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        init_cfg (dict | list[dict] | None): See :meth:`Backbone.init_weights`.

    Attributes:
        blocks_name: Name of the list of blocks.
        tokens_first: Whether rows of other tokens than those of patches stand in front in the table of positions, or
            in the middle.
    """

    input_weight: ClassVar[str] = 'patch_embed.proj.weight'
    blocks_name: ClassVar[str]
    tokens_first: ClassVar[bool]

    def __init__(
        self,
        embed_dims: int,
        depth: int,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims, self.depth = embed_dims, depth
        self.out_indices = self._resolve_out_indices(out_indices, depth, 'blocks')
        self.frozen_stages = self._check_frozen_stages(frozen_stages, depth)
        self.with_cp = with_cp

    def _add_embedding(
        self, in_channels: int, patch_size: int, stride: int, image_size: int | tuple[int, int], extra_rows: int = 0
    ) -> None:
        """Patches, and a table of positions for images of ``image_size`` with ``extra_rows`` for other tokens."""
        self.patch_embed = PatchEmbed(in_channels, self.embed_dims, patch_size, stride)
        self._add_positions(image_size, extra_rows)

    def _add_positions(self, image_size: int | tuple[int, int], extra_rows: int = 0) -> None:
        """A table for the tokens that ``patch_embed`` makes of images of ``image_size``, and for others."""
        size = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
        grid = self.patch_embed.grid(*size)
        table = torch.empty(1, grid[0] * grid[1] + extra_rows, self.embed_dims)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.pos_embed._no_weight_decay = True
        self.position_embedding = PositionEmbedding(grid)

    def adapt_weights(self, found: dict[str, Tensor]) -> list[str]:
        """Fit the position embedding of a file: its size, and the rows of other tokens."""
        grid, stride = self.position_embedding.grid, self.patch_embed.stride
        return fit_pos_embed(found, self.state_dict(), grid, stride, self.tokens_first)

    def embedding(self) -> tuple[nn.Module, int, int]:
        """See :meth:`Backbone.embedding`."""
        return self.patch_embed, self.embed_dims, self.patch_embed.stride

    def maps(self) -> list[tuple[int, int]]:
        """See :meth:`Backbone.maps`."""
        return [(self.embed_dims, self.patch_embed.stride)] * len(self.out_indices)

    def used_stages(self) -> list[nn.Module]:
        """See :meth:`Backbone.used_stages`."""
        return list(getattr(self, self.blocks_name)[: self.out_indices[-1] + 1])

    @staticmethod
    def _to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, Hp * Wp, C) to (B, C, Hp, Wp)."""
        return x.transpose(1, 2).unflatten(2, grid).contiguous()

    def _num_blocks(self) -> int:
        return self.depth

    def _depth_of(self, name: str) -> int | None:
        if name.startswith(f'{self.blocks_name}.'):
            return int(name.split('.')[1]) + 1
        return 0 if name.startswith(('patch_embed.', 'pos_embed', 'cls_token')) else None

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        if self.frozen_stages < 0:
            return []
        return [self.patch_embed, self.pos_embed, *getattr(self, self.blocks_name)[: self.frozen_stages]]
