"""MambaOut: https://arxiv.org/abs/2405.07992."""

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmvim.models.layers import DropPath, drop_path_rates
from mmvim.registry import register_backbone

from .base import StagedBackbone

EPS = 1e-6


class GatedCNNBlock(BaseModule):
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


class Stem(BaseModule):
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


class Downsample(BaseModule):
    """A convolution of stride 2 and a norm, (B, H, W, C) to (B, H / 2, W / 2, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.norm = nn.LayerNorm(out_channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """An odd side is rounded up."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class MambaOutStage(BaseModule):
    """What leads to a resolution, and the blocks there.

    Args:
        downsample (nn.Module): Takes the map of the stage before to this one's size and channels.
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        with_cp (bool): Whether to compute each block again in the backward pass.
        block (dict): Further arguments of :class:`GatedCNNBlock`.
    """

    def __init__(self, downsample: nn.Module, dims: int, rates: Sequence[float], with_cp: bool, block: dict) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(GatedCNNBlock(dims, rate, **block) for rate in rates)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """(B, H', W', C') to (B, H, W, C)."""
        # The sum over all blocks is kept in the dtype of the parameters: fp32 under autocast.
        x = self.downsample(x).to(self.blocks[0].norm.weight.dtype)
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x


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
        init_cfg (dict | None): ``dict(type='Pretrained', checkpoint=...)`` reads official files, timm's and own ones. A
            classifier has no ``outnorm``: they start as new ones. Its norm stands behind the pooling and is left out.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = MambaOut('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 96, 38, 53), (1, 192, 19, 27), (1, 384, 10, 14), (1, 576, 5, 7)]
    """

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

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = self._resolve_arch(arch)
        self.dims, self.depths = tuple(arch['embed_dims']), tuple(arch['depths'])
        num_stages = len(self.depths)
        if not self.depths or min(self.depths) < 1 or len(self.dims) != num_stages or self.dims[0] % 2:
            raise ValueError(
                f'embed_dims {self.dims}, depths {self.depths}: expected one number of channels (the first of them '
                'even) and at least one block for each stage'
            )
        block = {'expansion': arch.get('expansion', 8 / 3), 'kernel_size': arch.get('kernel_size', 7)}
        if block['expansion'] < 1 or block['kernel_size'] % 2 == 0:
            raise ValueError(f'{block}: expected an expansion of at least 1 and an odd kernel_size')
        self.out_indices = self._resolve_out_indices(out_indices, num_stages, 'stages')
        self.frozen_stages = self._check_frozen_stages(frozen_stages, num_stages)

        self.in_channels = in_channels
        self.stem = Stem(in_channels, self.dims[0])
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        self.stages = nn.ModuleList()
        for i, (dims, depth) in enumerate(zip(self.dims, self.depths, strict=True)):
            downsample = Downsample(self.dims[i - 1], dims) if i else nn.Identity()
            self.stages.append(MambaOutStage(downsample, dims, list(islice(rates, depth)), with_cp, block))
        for i in self.out_indices:
            self.add_module(f'outnorm{i}', nn.LayerNorm(self.dims[i], eps=EPS))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self._freeze_stages()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C_i, H_i, W_i) per ``out_indices``, at strides 4, 8, 16, 32, sides rounded up.

        Raises:
            ValueError: If the image has other channels.
        """
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f'expected images (B, {self.in_channels}, H, W), got {tuple(image.shape)}')
        x = self.stem(image.permute(0, 2, 3, 1).contiguous())
        outs = []
        for i, stage in enumerate(self.stages[: self.out_indices[-1] + 1]):
            x = stage(x)
            if i in self.out_indices:
                outs.append(getattr(self, f'outnorm{i}')(x).permute(0, 3, 1, 2).contiguous())
        return tuple(outs)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name: Name in the whole model.
            prefix: What stands in front of this backbone's own names, such as ``'backbone.'``.

        Returns:
            The layer, 0 for the stem, i + 1 for block i, counted through all stages, a downsampling with the block
            before it, the last one for everything else; and the number of layers.
        """
        num_layers = sum(self.depths) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name.startswith('stages.'):
            _, stage, part, block, *_ = name.split('.')
            before = sum(self.depths[: int(stage)])
            return (before if part == 'downsample' else before + int(block) + 1), num_layers
        return (0 if name.startswith('stem.') else num_layers - 1), num_layers

    def _embedding_and_stages(self) -> tuple[nn.Module, nn.ModuleList]:
        return self.stem, self.stages
