"""Vision Mamba (Vim): https://arxiv.org/abs/2401.09417."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import (
    DropPath,
    MakeWalks,
    RMSNorm,
    drop_path_rates,
    resize_pos_embed,
    rope_tables,
    rotate,
)
from mmvim.registry import register_backbone

from .base import run_block
from .plain import PlainBackbone
from .vim_mixer import BidirectionalMixer


class VimBlock(nn.Module):
    """Norm and mixer, without the residual connection: that is the backbone's, which carries two streams.

    Args:
        dims (int): C, channels of a token.
        mixer (dict): Further arguments of :class:`BidirectionalMixer`.
    """

    def __init__(self, dims: int, mixer: dict) -> None:
        super().__init__()
        self.norm = RMSNorm(dims, eps=1e-5)
        self.mixer = BidirectionalMixer(dims, **mixer)

    def forward(self, residual: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The residual stream (B, L, C) of a map of ``grid``, if it is one, to this block's branch, (B, L, C)."""
        return self.mixer(self.norm(residual), grid)


@register_backbone
class Vim(PlainBackbone):
    """Vision Mamba: bidirectional selective scans over a sequence of patches.

    A PyTorch implementation of `Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space
    Model <https://arxiv.org/abs/2401.09417>`_. The defaults are what the published ImageNet files need.

    A block sees the residual stream, and its result (the *branch*) is added to that stream. With stochastic depth this
    addition is what may be dropped.

    Any image size will do: zeros are added at the right and bottom until the last patch is whole, and the position
    embedding is interpolated.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with its keys ``embed_dims``, ``depth``, ``patch_size``
            and ``patch_stride``, and, if wanted, ``d_state``, ``d_conv``, ``expand``, ``dt_rank``.
        pretrain_img_size (int | tuple): Image size (height, width) that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned; negative ones count from the end.
            Blocks behind the last of them are not computed.
        out_type (str): ``'featmap'`` for maps (B, C, Hp, Wp), ``'raw'`` for tokens (B, L, C) with the class token where
            there is one, ``'cls_token'`` for the normed class token (B, C).
        with_cls_token (bool | None): Whether a class token stands in the middle of the sequence. By default only
            for ``out_type='cls_token'``.
        feature (str): What an output shows: ``'residual'``, the residual stream behind the block, or ``'branch'``, what
            the block adds to it (upstream's tiny segmentation model).
        final_norm (bool): Whether the output of the last block is normed; always for ``'cls_token'``.
        average_directions (bool): Whether the sum of the walks is divided by their number, as in the published models.
        rope (bool): Whether tokens are rotated by their position in front of each block (upstream's dense models).
        rope_residual (bool): Whether the residual stream is rotated too; needs ``rope``.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which the tokens are scanned, see
            :func:`~mmvim.models.layers.resolve_walks`; each has parameters of its own. With a class token a function
            is asked for walks over one row, and of names ``'bidirectional'`` alone will do.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = Vim('tiny', out_indices=(5, 11, 17, 23))
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 320))]
        [(1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20)]
    """

    blocks_name: ClassVar[str] = 'layers'
    tokens_first: ClassVar[bool] = False

    def __init__(
        self,
        arch: str | dict = 'tiny',
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'featmap',
        with_cls_token: bool | None = None,
        feature: str = 'residual',
        final_norm: bool = False,
        average_directions: bool = True,
        rope: bool = False,
        rope_residual: bool = False,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'bidirectional',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
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
        if self.with_cls_token and not callable(walks) and walks != 'bidirectional':
            raise UserValueError(f'walks={walks!r} knows no place for a class token: set with_cls_token=False')
        self.rope, self.rope_residual = rope, rope_residual
        self._add_embedding(
            in_channels, arch['patch_size'], arch['patch_stride'], pretrain_img_size, extra_rows=self.with_cls_token
        )
        if self.with_cls_token:
            self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, self.embed_dims), std=0.02))
            self.cls_token._no_weight_decay = True
        mixer = {key: arch[key] for key in self.optional if key in arch}
        mixer |= {'average': average_directions, 'walks': walks}
        self.layers = nn.ModuleList(VimBlock(self.embed_dims, mixer) for _ in range(self.depth))
        # The branch of block i is dropped with the i-th rate.
        self.drop_paths = nn.ModuleList(DropPath(rate) for rate in drop_path_rates(drop_path_rate, self.depth))
        self.norm_f = RMSNorm(self.embed_dims, eps=1e-5) if final_norm or out_type == 'cls_token' else None
        for layer in self.layers:
            # The residual stream is a sum over all blocks: Mamba starts their branches smaller the more there are.
            layer.mixer.out_proj.weight.data.div_(self.depth**0.5)
        self._freeze()

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
        angles = rope_tables(grid, self.embed_dims, residual) if self.rope else None
        if self.rope:
            residual = rotate(residual, *angles)
        outs = []
        for i, layer in enumerate(self._used_blocks()):
            last = i == self.depth - 1
            branch = run_block(self, layer, residual, None if self.with_cls_token else grid)
            residual = self._add_branch(residual, branch, i, None if last else angles)
            if i in self.out_indices:
                outs.append(self._output(branch if self.feature == 'branch' else residual, grid, last))
        return tuple(outs)

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

    def _output(self, x: Tensor, grid: tuple[int, int], last: bool) -> Tensor:
        """Tokens (B, L, C) behind a block in the form that ``out_type`` asks for, in the dtype of the parameters."""
        x = self.norm_f(x) if last and self.norm_f is not None else x.to(self.pos_embed.dtype)
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

    _tiny: ClassVar[dict] = {'embed_dims': 192, 'depth': 24, 'patch_size': 16, 'patch_stride': 16}
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['s', 'small'], {**_tiny, 'embed_dims': 384}),
        **dict.fromkeys(['b', 'base'], {**_tiny, 'embed_dims': 768}),
        # Fine-tuned by the authors at half the stride, published as "Vim+".
        **dict.fromkeys(['t+', 'tiny_plus'], {**_tiny, 'patch_stride': 8}),
        **dict.fromkeys(['s+', 'small_plus'], {**_tiny, 'embed_dims': 384, 'patch_stride': 8}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depth', 'patch_size', 'patch_stride'}
    optional: ClassVar[set[str]] = {'d_state', 'd_conv', 'expand', 'dt_rank'}
