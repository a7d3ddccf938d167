"""Plain backbones whose blocks stand beside a residual stream: Vim, and what was made of it."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import DropPath, drop_path_rates, resize_pos_embed, rotate

from .base import run_block
from .plain import PlainBackbone


class TwoStreamBackbone(PlainBackbone):
    """A block sees the residual stream, and its result (the *branch*) is added to that stream.

    With stochastic depth this addition is what may be dropped. A class token may stand in the middle of the sequence.

    Args:
        arch (dict): ``embed_dims``, ``depth``, ``patch_size`` and ``patch_stride``.
        pretrain_img_size (int | tuple): Image size (height, width) that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned.
        out_type (str): ``'featmap'``, ``'raw'`` or ``'cls_token'``.
        with_cls_token (bool | None): Whether there is a class token; by default only for ``out_type='cls_token'``.
        feature (str): ``'residual'`` or ``'branch'``.
        rope (bool): Whether tokens are rotated by their position in front of each block.
        rope_residual (bool): Whether the residual stream is rotated too.
        frozen_stages (int): Blocks that are not trained.
        with_cp (bool): Whether to compute each block again in the backward pass.
        init_cfg (dict | list[dict] | None): See :meth:`Backbone.init_weights`.
    """

    blocks_name: ClassVar[str] = 'layers'
    tokens_first: ClassVar[bool] = False

    def __init__(
        self,
        arch: dict,
        pretrain_img_size: int | tuple[int, int],
        in_channels: int,
        out_indices: int | Sequence[int],
        out_type: str,
        with_cls_token: bool | None,
        feature: str,
        rope: bool,
        rope_residual: bool,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(arch['embed_dims'], arch['depth'], out_indices, frozen_stages, with_cp, init_cfg)
        self.out_type = self._one_of('out_type', out_type, ('featmap', 'raw', 'cls_token'))
        self.feature = self._one_of('feature', feature, ('residual', 'branch'))
        self.with_cls_token = out_type == 'cls_token' if with_cls_token is None else with_cls_token
        if self.out_type == 'cls_token' and not self.with_cls_token:
            raise UserValueError("out_type='cls_token' needs with_cls_token=True")
        if rope and self.with_cls_token:
            raise UserValueError('rope=True knows no position for a class token: set with_cls_token=False')
        if rope_residual and not rope:
            raise UserValueError('rope_residual=True needs rope=True')
        self.rope, self.rope_residual = rope, rope_residual
        self._add_embedding(
            in_channels, arch['patch_size'], arch['patch_stride'], pretrain_img_size, extra_rows=self.with_cls_token
        )
        if self.with_cls_token:
            self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, self.embed_dims), std=0.02))
            self.cls_token._no_weight_decay = True

    def _add_blocks(self, blocks: Iterable[nn.Module], drop_path_rate: float, norm_f: nn.Module | None) -> None:
        """The blocks, each with a ``mixer``, and the norm behind the last one, if it is wanted."""
        self.layers = nn.ModuleList(blocks)
        # The branch of block i is dropped with the i-th rate.
        self.drop_paths = nn.ModuleList(DropPath(rate) for rate in drop_path_rates(drop_path_rate, self.depth))
        # Nothing is done here: it is where hooks find the stream behind each block, which no other module gives.
        self.streams = nn.ModuleList(nn.Identity() for _ in range(self.depth))
        self.norm_f = norm_f
        for layer in self.layers:
            # The residual stream is a sum over all blocks: Mamba starts their branches smaller the more there are.
            layer.mixer.out_proj.weight.data.div_(self.depth**0.5)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Outputs for an image.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            One tensor per ``out_indices``; see ``out_type``.

        Raises:
            ValueError: If the image has other channels or is smaller than a patch.
        """
        x, grid = self.patch_embed(image)
        x = self._add_position(x, grid)
        # Kept in fp32 at least under autocast: it is a sum over all blocks.
        residual = x.to(torch.promote_types(x.dtype, torch.float32))
        angles = self._angles(grid, residual) if self.rope else None
        if self.rope:
            residual = rotate(residual, *angles)
        outs = []
        for i, layer in enumerate(self.used_stages()):
            last = i == self.depth - 1
            branch = run_block(self, layer, residual, self._walked(grid))
            residual = self.streams[i](self._add_branch(residual, branch, i, None if last else angles))
            if i in self.out_indices:
                x = branch if self.feature == 'branch' else residual
                outs.append(self._output(self._normed(x, len(outs), last), grid))
        return tuple(outs)

    def outlets(self) -> list[nn.Module]:
        """See :meth:`Backbone.outlets`."""
        return list(self.streams[: self.out_indices[-1] + 1])

    def maps(self) -> list[tuple[int, int]]:
        """See :meth:`Backbone.maps`."""
        return super().maps() if self.out_type == 'featmap' else []

    def _angles(self, grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (Hp * Wp, C) that tokens are rotated by."""
        raise NotImplementedError

    def _walked(self, grid: tuple[int, int]) -> tuple[int, int] | None:
        """The map that the blocks are told to walk over, given the map of the patches."""
        return grid

    def _add_position(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add position embedding and, in the middle of the sequence, the class token: (B, M, C) to (B, M [+ 1], C)."""
        if not self.with_cls_token:
            return x + self.position_embedding(self.pos_embed, grid)
        # In the table, the row of the class token is in the middle of the grid that the table was made for.
        middle = self.position_embedding.num_tokens // 2
        patches = torch.cat([self.pos_embed[:, :middle], self.pos_embed[:, middle + 1 :]], 1)
        x = x + resize_pos_embed(patches, self.position_embedding.grid, grid)
        token = (self.cls_token + self.pos_embed[:, middle : middle + 1]).to(x.dtype).expand(len(x), -1, -1)
        middle = x.shape[1] // 2
        return torch.cat([x[:, :middle], token, x[:, middle:]], 1)

    def _add_branch(self, residual: Tensor, branch: Tensor, block: int, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        """The residual stream behind ``block``, rotated by ``angles`` for the next one."""
        if angles is not None:
            branch = rotate(branch, *angles)
            residual = rotate(residual, *angles) if self.rope_residual else residual
        return residual + self.drop_paths[block](branch)

    def _normed(self, x: Tensor, output: int, last: bool) -> Tensor:
        """Tokens (B, L, C) of an output, counted from 0, in the dtype of the parameters."""
        return self.norm_f(x) if last and self.norm_f is not None else x.to(self.pos_embed.dtype)

    def _output(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, L, C) behind a block in the form that ``out_type`` asks for."""
        if self.out_type == 'raw':
            return x
        middle = grid[0] * grid[1] // 2
        if self.out_type == 'cls_token':
            return x[:, middle]
        if self.with_cls_token:
            x = torch.cat([x[:, :middle], x[:, middle + 1 :]], 1)
        return self._to_map(x, grid)

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        frozen = super()._frozen()
        if frozen:
            frozen += self.drop_paths[: self.frozen_stages]
            frozen += [self.cls_token] if self.with_cls_token else []
            frozen += [self.norm_f] if self.frozen_stages == self.depth and self.norm_f is not None else []
        return frozen
