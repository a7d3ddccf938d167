"""EfficientVMamba: https://arxiv.org/abs/2403.09977."""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import ConvNorm, DropPath, MakeWalks, PatchMerging
from mmvim.registry import register_backbone

from .staged import Stage, StagedBackbone
from .vmamba_mixer import SS2D


class ChannelAttention(nn.Module):
    """Scales each channel of a map by a number that the normed map's mean decides.

    Args:
        dims (int): C, channels of the map.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.global_reduce = nn.Linear(dims, max(dims // 8, 1))
        self.channel_select = nn.Linear(max(dims // 8, 1), dims)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        mean = self.norm(x).mean((1, 2), keepdim=True)
        return x * self.channel_select(F.gelu(self.global_reduce(mean))).sigmoid()


class EVSSBlock(nn.Module):
    """A scan of skipped samples beside a convolution, both weighed by one channel attention and added to the map.

    Args:
        dims (int): C, channels of the map.
        drop_path (float): Probability of leaving the branches out.
        mixer (dict): Further arguments of :class:`SS2D`.
    """

    def __init__(self, dims: int, drop_path: float, mixer: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.op = SS2D(dims, **mixer)
        self.conv_branch = nn.Sequential(
            nn.Conv2d(dims, dims, 3, padding=1, groups=dims), nn.BatchNorm2d(dims), nn.GELU(), nn.Conv2d(dims, dims, 1)
        )
        self.se = ChannelAttention(dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        normed = self.norm(x)
        # Seen by the convolutions as (B, C, H, W) in channels-last memory, which they keep.
        local = self.conv_branch(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path(self.se(self.op(normed)) + self.se(local))


class SqueezeExcite(nn.Module):
    """Scales each channel of a map (B, C, H, W) by a number that the map's mean decides.

    Args:
        dims (int): C, channels of the map.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(dims, dims // 8, 1)
        self.conv_expand = nn.Conv2d(dims // 8, dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x * self.conv_expand(F.relu(self.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class InvertedResidual(nn.Module):
    """MobileNetV2's block of four times as many channels, with squeeze and excitation.

    Args:
        dims (int): C, channels of the map.
        drop_path (float): Probability of leaving the branch out.
    """

    def __init__(self, dims: int, drop_path: float) -> None:
        super().__init__()
        wide = 4 * dims
        self.conv_pw = nn.Sequential(nn.Conv2d(dims, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.conv_dw = nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.ReLU())
        self.se = SqueezeExcite(wide)
        self.conv_pw2 = nn.Sequential(nn.Conv2d(wide, dims, 1, bias=False), nn.BatchNorm2d(dims))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        branch = self.conv_pw2(self.se(self.conv_dw(self.conv_pw(x.permute(0, 3, 1, 2)))))
        return x + self.drop_path(branch.permute(0, 2, 3, 1))


class EfficientVMambaStage(Stage):
    """Blocks of one resolution, and what leads from them to the next stage.

    Args:
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        downsample (nn.Module | None): Takes the blocks' output to the next stage.
        with_cp (bool): Whether to compute each block again in the backward pass.
        mixer (dict | None): Further arguments of :class:`SS2D`; None for blocks without a scan.
    """

    def __init__(
        self, dims: int, rates: Sequence[float], downsample: nn.Module | None, with_cp: bool, mixer: dict | None
    ) -> None:
        super().__init__(with_cp)
        self.blocks = nn.ModuleList(
            InvertedResidual(dims, rate) if mixer is None else EVSSBlock(dims, rate, mixer) for rate in rates
        )
        self.downsample = downsample


@register_backbone
class EfficientVMamba(StagedBackbone):
    """EfficientVMamba: scans over skipped samples of a map in the first two stages, convolutions alone in the others.

    A PyTorch implementation of `EfficientVMamba: Atrous Selective Scan for Light Weight Visual Mamba
    <https://arxiv.org/abs/2403.09977>`_. Every second row and column of a map make a smaller one, in four ways, and
    each of these is scanned once, so that every token is visited by one walk. Nothing depends on the size of the
    image: any size of at least 4 x 4 will do; pixels that do not fill a patch of 4 x 4 are left out.

    Channels and depths of the variants are those of the authors' training logs and files, which differ from the paper's
    table and some of their configs: ``small`` begins with 64 channels, and only ``base`` has 9 blocks in a stage.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` (channels of each stage) and
            ``depths`` (blocks per stage) and, if wanted,

            - ``scan_stages`` (int): The first stages, whose blocks have scans. Defaults to 2.
            - ``ssm_ratio`` (float): Scanned channels / channels of the stage. Defaults to 2.0.
            - ``d_state`` (int): States per scanned channel. Defaults to 16.
            - ``dt_rank`` (int): Rank of the step size. Defaults to channels of the stage / 16, rounded up.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``); negative ones count from the end. Stages behind the last of them are not computed.
        ssm_act (str): Activation behind the convolution in front of a scan: ``'silu'``, ``'gelu'`` or ``'relu'``.
        ssm_init (str): Initialisation of the scans: ``'mamba'``, ``'random'`` or ``'zero'``.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Stages that are not trained, the patch embedding included: -1 none, 0 the patch embedding
            only, n the first n stages with their outputs' norms too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which a map is scanned, see
            :func:`~mmvim.models.layers.resolve_walks`; each has scan parameters of its own.
        out_norm (bool): Whether outputs go through these norms; not if a head norms what it has pooled.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = EfficientVMamba('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 48, 37, 52), (1, 96, 19, 26), (1, 192, 10, 13), (1, 384, 5, 7)]
    """

    embedding_name: ClassVar[str] = 'patch_embed'
    input_weight: ClassVar[str] = 'patch_embed.0.conv.weight'
    stages_name: ClassVar[str] = 'layers'
    downsample_at_end: ClassVar[bool] = True
    smallest_side: ClassVar[int] = 4

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        ssm_act: str = 'silu',
        ssm_init: str = 'mamba',
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'strided',
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        dims, depths = tuple(arch['embed_dims']), tuple(arch['depths'])
        if not depths or min(depths) < 1 or len(dims) != len(depths):
            raise UserValueError(
                f'embed_dims {dims}, depths {depths}: expected one number of channels and at least one block for each '
                'stage'
            )
        scans = arch.get('scan_stages', 2)
        if not 0 <= scans <= len(depths):
            raise UserValueError(f'scan_stages={scans}: expected 0 to {len(depths)}, the number of stages')
        super().__init__(dims, depths, in_channels, out_indices, frozen_stages, init_cfg)
        mixer = {'ratio': arch.get('ssm_ratio', 2.0), 'd_state': arch.get('d_state', 16)}
        mixer |= {'dt_rank': arch.get('dt_rank'), 'act': ssm_act, 'init': ssm_init, 'walks': walks}
        mixer |= {'gate': True, 'conv_bias': True}
        self.patch_embed = nn.Sequential(ConvNorm(in_channels, dims[0], 4, 4, 0))
        self.layers = nn.ModuleList()
        for i, rates in enumerate(self._drop_path_rates(drop_path_rate)):
            down = PatchMerging(dims[i], dims[i + 1]) if i < len(depths) - 1 else None
            self.layers.append(EfficientVMambaStage(dims[i], rates, down, with_cp, mixer if i < scans else None))
        self._add_outnorms(1e-5, out_norm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._freeze()

    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], {'embed_dims': (48, 96, 192, 384), 'depths': (2, 2, 4, 2)}),
        **dict.fromkeys(['s', 'small'], {'embed_dims': (64, 128, 256, 512), 'depths': (2, 2, 4, 2)}),
        **dict.fromkeys(['b', 'base'], {'embed_dims': (96, 192, 384, 768), 'depths': (2, 2, 9, 2)}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depths'}
    optional: ClassVar[set[str]] = {'scan_stages', 'ssm_ratio', 'd_state', 'dt_rank'}
