"""MambaVision: https://arxiv.org/abs/2407.08083."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import MakeWalks
from mmvim.registry import register_backbone

from .mambavision_blocks import ConvBlock, Downsample, Stem, WindowBlock, window_mixers
from .staged import Stage, StagedBackbone

CONV_STAGES = 2


class MambaVisionStage(Stage):
    """Blocks of one resolution, and what leads from them to the next stage.

    Args:
        blocks (Sequence[nn.Module]): Each takes a map, or tokens of windows.
        downsample (nn.Module | None): Takes the blocks' output to the next stage.
        with_cp (bool): Whether to compute each block again in the backward pass.
        window (int | None): Side of the windows that the blocks see; None for the whole map.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], downsample: nn.Module | None, with_cp: bool, window: int | None = None
    ) -> None:
        super().__init__(with_cp)
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C).

        Zeros fill the windows up at the right and at the bottom. All blocks see them as tokens like others: so the
        authors' models were trained, some with windows larger than the map.
        """
        if self.window is None:
            return super().forward(x)
        side, (height, width) = self.window, x.shape[1:3]
        down, right = -height % side, -width % side
        if down or right:
            x = F.pad(x, (0, 0, 0, right, 0, down))
        rows, columns = (height + down) // side, (width + right) // side
        windows = x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
        windows = super().forward(windows.flatten(3, 4).flatten(0, 2))  # (B * rows * columns, side * side, C)
        x = windows.unflatten(1, (side, side)).unflatten(0, (-1, rows, columns)).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2)[:, :height, :width].contiguous()


@register_backbone
class MambaVision(StagedBackbone):
    """MambaVision: two stages of convolutions, then windows that are scanned in the first blocks and attended to after.

    A PyTorch implementation of `MambaVision: A Hybrid Mamba-Transformer Vision Backbone
    <https://arxiv.org/abs/2407.08083>`_. Any size of image will do: maps are padded to whole windows. Maps are kept
    channel-last between the convolutions.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` (channels of the first stage, each
            further one has twice as many), ``depths`` (blocks per stage, the first two of convolutions) and ``heads``
            (of attention, for each stage behind these two) and, if wanted,

            - ``stem_dims`` (int): Channels between the two convolutions of the stem. Defaults to 64.
            - ``mlp_ratio`` (float): Hidden channels of an MLP / channels of the stage. Defaults to 4.0.
            - ``layer_scale`` (float | None): Start of a factor per channel behind each branch of a block with windows;
              None for no such factors. Defaults to None.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``); negative ones count from the end. Stages behind the last of them are not computed.
        window_sizes (Sequence[int]): Side of the windows in each stage behind the first two, in tokens. A published
            file fits any; the authors take (14, 7) at 224 pixels and larger ones for dense prediction.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Stages that are not trained, the stem included: -1 none, 0 the stem only, n the first n
            stages with their outputs' norms too. BatchNorm in them keeps its statistics.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which a window is scanned, see
            :func:`~mmvim.models.layers.resolve_walks`; each has scan parameters of its own. Published files have one.
        out_norm (bool): Whether outputs go through these norms; not if a head norms what it gets.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones. Its norm is left out.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = MambaVision('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 80, 38, 53), (1, 160, 19, 27), (1, 320, 10, 14), (1, 640, 5, 7)]
    """

    embedding_name: ClassVar[str] = 'patch_embed'
    input_weight: ClassVar[str] = 'patch_embed.conv1.weight'
    stages_name: ClassVar[str] = 'levels'
    downsample_at_end: ClassVar[bool] = True

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        window_sizes: Sequence[int] = (14, 7),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'rows',
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        depths, heads, windows = tuple(arch['depths']), tuple(arch['heads']), tuple(window_sizes)
        dims = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        _check(dims, depths, heads, windows)
        super().__init__(dims, depths, in_channels, out_indices, frozen_stages, init_cfg)
        self.patch_embed = Stem(in_channels, arch.get('stem_dims', 64), dims[0])
        block = {'mlp_ratio': arch.get('mlp_ratio', 4.0), 'layer_scale': arch.get('layer_scale')}
        self.levels = nn.ModuleList()
        for i, rates in enumerate(self._drop_path_rates(drop_path_rate)):
            down = Downsample(dims[i]) if i < len(depths) - 1 else None
            if i < CONV_STAGES:
                blocks, window = [ConvBlock(dims[i], rate) for rate in rates], None
            else:
                window = windows[i - CONV_STAGES]
                mixers = window_mixers(dims[i], depths[i], heads[i - CONV_STAGES], window, walks)
                blocks = [WindowBlock(dims[i], mixer, rate, **block) for mixer, rate in zip(mixers, rates, strict=True)]
            self.levels.append(MambaVisionStage(blocks, down, with_cp, window))
        self._add_outnorms(1e-5, out_norm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._freeze()

    _tiny: ClassVar[dict[str, Any]] = {'embed_dims': 80, 'depths': (1, 3, 8, 4), 'heads': (8, 16), 'stem_dims': 32}
    _small: ClassVar[dict[str, Any]] = {'embed_dims': 96, 'depths': (3, 3, 7, 5), 'heads': (8, 16)}
    _base: ClassVar[dict[str, Any]] = {**_small, 'embed_dims': 128, 'depths': (3, 3, 10, 5), 'layer_scale': 1e-5}
    _large: ClassVar[dict[str, Any]] = {**_base, 'embed_dims': 196, 'heads': (16, 32)}
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['t2', 'tiny2'], {**_tiny, 'depths': (1, 3, 11, 4)}),
        **dict.fromkeys(['s', 'small'], _small),
        **dict.fromkeys(['b', 'base'], _base),
        **dict.fromkeys(['l', 'large'], _large),
        **dict.fromkeys(['l2', 'large2'], {**_large, 'depths': (3, 3, 12, 5)}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depths', 'heads'}
    optional: ClassVar[set[str]] = {'stem_dims', 'mlp_ratio', 'layer_scale'}


def _check(dims: Sequence[int], depths: Sequence[int], heads: Sequence[int], windows: Sequence[int]) -> None:
    """Refuse numbers that do not fit each other."""
    if not depths or min(depths) < 1:
        raise UserValueError(f'depths {depths}: expected at least one stage, and one block in each')
    hybrid = len(depths[CONV_STAGES:])
    if len(windows) < hybrid or any(side < 1 for side in windows):
        raise UserValueError(
            f'window_sizes {windows}: expected {hybrid} of at least 1, one for each stage behind the first '
            f'{CONV_STAGES}'
        )
    if len(heads) != hybrid or any(n < 1 or C % n for C, n in zip(dims[CONV_STAGES:], heads, strict=False)):
        raise UserValueError(
            f'heads {heads}: expected divisors of the channels {tuple(dims[CONV_STAGES:])}, one for each stage behind '
            f'the first {CONV_STAGES}'
        )
