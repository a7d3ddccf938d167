"""MambaOut: https://arxiv.org/abs/2405.07992."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import DropPath
from mmvim.registry import register_backbone

from .staged import Stage, StagedBackbone

EPS = 1e-6


class GatedCNNBlock(nn.Module):
    """Mamba's block without the scan: a gate on channels of which some went through a depthwise convolution.

    Args:
        dims (int): C, channels of the map, and of the convolution.
        drop_path (float): Probability of leaving the branch out.
        expansion (float): Gated channels / C, at least 1.
        kernel_size (int): Side of the convolution's kernel, odd.
    """

    def __init__(self, dims: int, drop_path: float, expansion: float, kernel_size: int) -> None:
        super().__init__()
        hidden = int(expansion * dims)
        self.widths = (hidden, hidden - dims, dims)
        self.norm = nn.LayerNorm(dims, eps=EPS)
        self.fc1 = nn.Linear(dims, 2 * hidden)
        self.conv = nn.Conv2d(dims, dims, kernel_size, padding=kernel_size // 2, groups=dims)
        self.fc2 = nn.Linear(hidden, dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        gate, kept, mixed = self.fc1(self.norm(x)).split(self.widths, -1)
        # Seen by the convolution as (B, C, H, W) in channels-last memory, which it keeps.
        mixed = self.conv(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path(self.fc2(F.gelu(gate) * torch.cat([kept, mixed], -1)))


class Stem(nn.Module):
    """Two convolutions of stride 2, each with a norm, (B, H, W, in_channels) to (B, H / 4, W / 4, dims).

    Args:
        in_channels (int): Channels of the image.
        dims (int): Channels of the result, even.
    """

    def __init__(self, in_channels: int, dims: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, dims // 2, 3, 2, 1)
        self.norm1 = nn.LayerNorm(dims // 2, eps=EPS)
        self.conv2 = nn.Conv2d(dims // 2, dims, 3, 2, 1)
        self.norm2 = nn.LayerNorm(dims, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """A half pixel that stride 2 leaves counts as a whole one."""
        x = F.gelu(self.norm1(self.conv1(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
        return self.norm2(self.conv2(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """A convolution of stride 2 and a norm, (B, H, W, C) to (B, H / 2, W / 2, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.norm = nn.LayerNorm(out_channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """An odd side is rounded up."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class MambaOutStage(Stage):
    """What leads to a resolution, and the blocks there.

    Args:
        downsample (nn.Module): Takes the map of the stage before to this one's size and channels.
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        with_cp (bool): Whether to compute each block again in the backward pass.
        block (dict): Further arguments of :class:`GatedCNNBlock`.
    """

    def __init__(self, downsample: nn.Module, dims: int, rates: Sequence[float], with_cp: bool, block: dict) -> None:
        super().__init__(with_cp)
        self.downsample = downsample
        self.blocks = nn.ModuleList(GatedCNNBlock(dims, rate, **block) for rate in rates)


@register_backbone
class MambaOut(StagedBackbone):
    """MambaOut: a pyramid of Mamba's blocks with the scan taken out, the control for models that have one.

    A PyTorch implementation of `MambaOut: Do We Really Need Mamba for Vision? <https://arxiv.org/abs/2405.07992>`_.
    Any size of image will do. Maps are kept channel-last between the convolutions.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` (channels of each stage, the first
            number even) and ``depths`` (blocks per stage) and, if wanted, ``expansion`` (gated channels of a block /
            channels of the stage, by default 8 / 3) and ``kernel_size`` (of the depthwise convolutions, by default 7).
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``); negative ones count from the end. Stages behind the last of them are not computed.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Stages that are not trained, the stem included: -1 none, 0 the stem only, n the first n
            stages with their outputs' norms too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        out_norm (bool): Whether outputs go through these norms; not if a head norms what it has pooled.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official files, timm's
            and own ones. A classifier has no ``outnorm``: they start as new ones. Its norm stands behind the pooling
            and is left out.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = MambaOut('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 96, 38, 53), (1, 192, 19, 27), (1, 384, 10, 14), (1, 576, 5, 7)]
    """

    embedding_name: ClassVar[str] = 'stem'
    input_weight: ClassVar[str] = 'stem.conv1.weight'
    stages_name: ClassVar[str] = 'stages'
    downsample_at_end: ClassVar[bool] = False

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        dims, depths = tuple(arch['embed_dims']), tuple(arch['depths'])
        if not depths or min(depths) < 1 or len(dims) != len(depths) or dims[0] % 2:
            raise UserValueError(
                f'embed_dims {dims}, depths {depths}: expected one number of channels (the first of them even) and at '
                'least one block for each stage'
            )
        block = {'expansion': arch.get('expansion', 8 / 3), 'kernel_size': arch.get('kernel_size', 7)}
        if block['expansion'] < 1 or block['kernel_size'] % 2 == 0:
            raise UserValueError(f'{block}: expected an expansion of at least 1 and an odd kernel_size')
        super().__init__(dims, depths, in_channels, out_indices, frozen_stages, init_cfg)
        self.stem = Stem(in_channels, dims[0])
        self.stages = nn.ModuleList()
        for i, rates in enumerate(self._drop_path_rates(drop_path_rate)):
            downsample = Downsample(dims[i - 1], dims[i]) if i else nn.Identity()
            self.stages.append(MambaOutStage(downsample, dims[i], rates, with_cp, block))
        self._add_outnorms(EPS, out_norm)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self._freeze()

    _tiny: ClassVar[dict] = {'embed_dims': (96, 192, 384, 576), 'depths': (3, 3, 9, 3)}
    _small: ClassVar[dict] = {'embed_dims': (96, 192, 384, 576), 'depths': (3, 4, 27, 3)}
    _base: ClassVar[dict] = {'embed_dims': (128, 256, 512, 768), 'depths': (3, 4, 27, 3)}
    arch_zoo: ClassVar[dict[str, dict]] = {
        'femto': {'embed_dims': (48, 96, 192, 288), 'depths': (3, 3, 9, 3)},
        'kobe': {'embed_dims': (48, 96, 192, 288), 'depths': (3, 3, 15, 3)},
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['s', 'small'], _small),
        **dict.fromkeys(['b', 'base'], _base),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depths'}
    optional: ClassVar[set[str]] = {'expansion', 'kernel_size'}
