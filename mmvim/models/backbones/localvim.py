"""LocalVim, LocalMamba's plain model: https://arxiv.org/abs/2403.09338."""

import re
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmvim.models.layers import (
    UNSEARCHED,
    RMSNorm,
    listed_directions,
    resize_pos_embed,
    resolve_directions,
    rope_tables,
)
from mmvim.registry import register_backbone

from .localvim_mixer import LocalMixer
from .two_streams import TwoStreamBackbone

_NORMS = {'rms': RMSNorm, 'layer': nn.LayerNorm}
# The grid of the published weights, whose tables of rotations are those of all other grids, interpolated.
_PUBLISHED_GRID = (14, 14)
_NORM_BIAS = re.compile(r'layers\.\d+\.norm\.bias|norm_f\.bias')


class LocalVimBlock(nn.Module):
    """Norm and mixer, without the residual connection: that is the backbone's, which carries two streams.

    Args:
        dims (int): C, channels of a token.
        norm (str): ``'rms'`` or ``'layer'``.
        mixer (dict): Further arguments of :class:`LocalMixer`.
    """

    def __init__(self, dims: int, norm: str, mixer: dict) -> None:
        super().__init__()
        self.norm = _NORMS[norm](dims, eps=1e-5)
        self.mixer = LocalMixer(dims, **mixer)

    def forward(self, residual: Tensor, grid: tuple[int, int]) -> Tensor:
        """The residual stream (B, L, C) of a map of ``grid`` to this block's branch, (B, L, C)."""
        return self.mixer(self.norm(residual), grid)


@register_backbone
class LocalVim(TwoStreamBackbone):
    """LocalVim: Vim whose blocks scan along rows, columns and windows, other ones in each block.

    A PyTorch implementation of `LocalMamba: Visual State Space Model with Windowed Selective Scan
    <https://arxiv.org/abs/2403.09338>`_. The defaults are what the published ImageNet files need. The authors' dense
    models differ from them in three ways, each an option: ``feature='branch'``, ``norm='layer'`` and
    ``legacy_reverse=True``.

    Any image size will do: zeros are added at the right and bottom until the last patch is whole, and the tables of
    positions and rotations are interpolated. A window that does not fit is filled up with steps without a token.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with its keys ``embed_dims``, ``depth``, ``patch_size``
            and ``patch_stride``, and, if wanted, ``directions``, ``d_state``, ``d_conv``, ``expand``, ``dt_rank``.
        pretrain_img_size (int | tuple): Image size (height, width) that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned; negative ones count from the end.
            Blocks behind the last of them are not computed.
        out_type (str): ``'featmap'`` for maps (B, C, Hp, Wp), ``'raw'`` for tokens (B, L, C) with the class token where
            there is one, ``'cls_token'`` for the normed class token (B, C).
        with_cls_token (bool | None): Whether a class token stands in the middle of the sequence. By default only
            for ``out_type='cls_token'``.
        feature (str): What an output shows: ``'residual'``, the residual stream behind the block, or ``'branch'``, what
            the block adds to it (the authors' dense models).
        final_norm (bool): Whether the output of the last block is normed as in the classifier; always for
            ``'cls_token'``.
        norm (str): In front of the blocks: ``'rms'``, or ``'layer'``, which subtracts the mean too (the authors' dense
            models; a file of the other kind has no biases, they start from 0).
        rope (bool | None): Whether tokens and residual stream are rotated by their position in front of each block. By
            default unless there is a class token, as in the published models.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        directions (Sequence[Sequence[str]] | Sequence[str] | None): Directions of each block, or of every block, see
            :func:`mmvim.ops.walks.local`; by default those of the variant. Each has scan parameters of its own.
        legacy_reverse (bool): Whether results along columns come back to the tokens as in the authors' code, which is
            wrong unless the map is square, see :func:`~mmvim.models.layers.read_columns_as_rows`.
        out_norm (bool): Whether output n goes through a LayerNorm of its own, ``outnorm{n}``.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = LocalVim('tiny', out_indices=(4, 9, 14, 19))
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 320))]
        [(1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20)]
    """

    expected_missing: ClassVar[tuple[str, ...]] = ('outnorm*',)

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
        norm: str = 'rms',
        rope: bool | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        directions: Sequence[Sequence[str]] | Sequence[str] | None = None,
        legacy_reverse: bool = False,
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        rope = not (out_type == 'cls_token' if with_cls_token is None else with_cls_token) if rope is None else rope
        super().__init__(
            arch, pretrain_img_size, in_channels, out_indices, out_type, with_cls_token, feature, rope, rope,
            frozen_stages, with_cp, init_cfg,
        )  # fmt: skip
        norm = self._one_of('norm', norm, tuple(_NORMS))
        given = arch.get('directions', UNSEARCHED) if directions is None else directions
        self.directions = resolve_directions(given, self.depth)
        mixer = {key: arch[key] for key in self.optional - {'directions'} if key in arch}
        mixer |= {'with_cls_token': self.with_cls_token, 'legacy_reverse': legacy_reverse}
        blocks = [LocalVimBlock(self.embed_dims, norm, {**mixer, 'directions': names}) for names in self.directions]
        with_final = final_norm or out_type == 'cls_token'
        self._add_blocks(blocks, drop_path_rate, _NORMS[norm](self.embed_dims, eps=1e-5) if with_final else None)
        for n in range(len(self.out_indices)):
            self.add_module(f'outnorm{n}', nn.LayerNorm(self.embed_dims) if out_norm else nn.Identity())
        self._freeze()

    def adapt_weights(self, found: dict[str, Tensor]) -> list[str]:
        """Fit the position embedding of a file, and the norms: without biases, or of other outputs."""
        done = super().adapt_weights(found)
        own = self.state_dict()
        biases = [key for key in own if _NORM_BIAS.fullmatch(key)]
        if biases and not any(key in found for key in biases):
            found.update((key, torch.zeros_like(own[key])) for key in biases)
            done.append('norms without biases: these are 0')
        theirs, ours = ({key for key in state if key.startswith('outnorm')} for state in (found, own))
        if theirs and theirs != ours:  # outputs are counted: a norm of the same number is another block's
            for key in theirs:
                del found[key]
            done.append('norms of other outputs left out')
        return done

    def _angles(self, grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        tables = rope_tables(_PUBLISHED_GRID, self.embed_dims, like)
        made_for = self.position_embedding.grid  # as when a file is loaded, and from there on as the position embedding
        tables = (resize_pos_embed(table.unsqueeze(0), _PUBLISHED_GRID, made_for) for table in tables)
        return tuple(resize_pos_embed(table, made_for, grid) for table in tables)

    def _normed(self, x: Tensor, output: int, last: bool) -> Tensor:
        return getattr(self, f'outnorm{output}')(super()._normed(x, output, last))

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        norms = [getattr(self, f'outnorm{n}') for n, block in enumerate(self.out_indices) if block < self.frozen_stages]
        return [*super()._frozen(), *norms]

    # Searched by the authors for LocalVim-T; their paper and their dense configs have the same for LocalVim-S.
    _searched: ClassVar[str] = """
        h v_flip w7 w7_flip | h_flip w2_flip w7 w7_flip | h h_flip v w7 | h h_flip v v_flip | h h_flip v v_flip |
        h h_flip v v_flip | h_flip v v_flip w7 | h_flip v v_flip w2_flip | h h_flip v v_flip | h h_flip v v_flip |
        h v v_flip w2 | h v v_flip w2_flip | h h_flip v_flip w7 | h_flip v v_flip w2 | h h_flip v v_flip |
        h v w2 w2_flip | v v_flip w2 w7 | h h_flip v w2 | h h_flip w2_flip w7 | v v_flip w2 w2_flip"""
    _tiny: ClassVar[dict] = {
        'embed_dims': 192,
        'depth': 20,
        'patch_size': 16,
        'patch_stride': 16,
        'directions': listed_directions(_searched),
    }
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['s', 'small'], {**_tiny, 'embed_dims': 384}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depth', 'patch_size', 'patch_stride'}
    optional: ClassVar[set[str]] = {'directions', 'd_state', 'd_conv', 'expand', 'dt_rank'}
