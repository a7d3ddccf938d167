"""PlainMamba: https://arxiv.org/abs/2403.17695."""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.models.layers import DropPath, MakeWalks, check_images, drop_path_rates
from mmvim.registry import register_backbone

from .base import run_block
from .plain import PlainBackbone
from .plainmamba_mixer import ContinuousMixer

HALVES, PATCH = 2, 8  # steps of the first convolution, and of the projection behind it


class ConvPatchEmbed(nn.Module):
    """Convolutions at half the resolution, then patches of 8 x 8 of these: tokens at stride 16.

    Zeros are added at the right and at the bottom until the last patch is whole.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): C, channels of a token.
        num_convs (int): Convolutions between the first and the projection.
        hidden (int): Their channels.
    """

    stride = HALVES * PATCH

    def __init__(self, in_channels: int, embed_dims: int, num_convs: int, hidden: int = 64) -> None:
        super().__init__()
        self.in_channels = in_channels
        first = nn.Conv2d(in_channels, hidden, 7, HALVES, 3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(hidden), nn.ReLU())
        convs = []
        for _ in range(num_convs):
            convs += [nn.Conv2d(hidden, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()]
        self.convs = nn.Sequential(*convs)
        self.projection = nn.Conv2d(hidden, embed_dims, PATCH, PATCH)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image, padding included."""
        return -(-height // self.stride), -(-width // self.stride)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """An image (B, in_channels, H, W) to tokens (B, Hp * Wp, C), row by row, and the grid (Hp, Wp).

        Raises:
            ValueError: If the input is no batch of images with ``in_channels`` channels.
        """
        check_images(image, self.in_channels, 1)
        x = self.convs(self.stem(image))
        down, right = (-side % PATCH for side in x.shape[2:])
        x = self.projection(F.pad(x, (0, right, 0, down)) if down or right else x)
        return x.flatten(2).transpose(1, 2).contiguous(), (x.shape[2], x.shape[3])


class PlainMambaBlock(nn.Module):
    """The mixer behind a norm, with a residual connection; in some blocks a convolution follows on the whole.

    Args:
        dims (int): C, channels of a token.
        drop_path (float): Probability of leaving the branch out.
        with_conv (bool): Whether there is this convolution, with norm and activation and without a residual connection.
        mixer (dict): Further arguments of :class:`ContinuousMixer`.
    """

    def __init__(self, dims: int, drop_path: float, with_conv: bool, mixer: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.mamba = ContinuousMixer(dims, **mixer)
        self.drop_path = DropPath(drop_path)
        self.dw = None
        if with_conv:
            depthwise = nn.Conv2d(dims, dims, 3, padding=1, groups=dims, bias=False)
            self.dw = nn.Sequential(depthwise, nn.BatchNorm2d(dims), nn.GELU())

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, L, C) of a map of ``grid`` rows and columns to (B, L, C)."""
        x = x + self.drop_path(self.mamba(self.norm(x), grid))
        if self.dw is None:
            return x
        return self.dw(x.unflatten(1, grid).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2).to(x.dtype)


@register_backbone
class PlainMamba(PlainBackbone):
    """PlainMamba: scans along rows and columns that turn round at each end, over one map at stride 16.

    A PyTorch implementation of `PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition
    <https://arxiv.org/abs/2403.17695>`_. Any size of image will do: zeros are added at the right and bottom until the
    last patch is whole, and the position embedding is interpolated.

    **The published weights need** ``raster_parameters=True, double_dt_bias=True``: they were trained with code in which
    the walks reorder the tokens but not the step sizes, B and C that belong to them, and in which the bias of the step
    size is added twice. The defaults are what the paper says, for training from scratch.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` and ``depth`` and, if wanted,

            - ``stem_convs`` (int): Convolutions at half the resolution. Defaults to 1.
            - ``conv_blocks`` (Sequence[int]): Blocks behind which stands a convolution. Defaults to none.
            - ``d_state`` (int): States per scanned channel. Defaults to 16.
            - ``d_conv`` (int): Side of the kernel in front of the scans, odd. Defaults to 7.
            - ``expand`` (int): Scanned channels / channels. Defaults to 2.
            - ``dt_rank`` (int): Rank of the step size. Defaults to channels / 16, rounded up.
        pretrain_img_size (int | tuple): Image size (height, width) that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``, and ``norm_f`` behind the last block); negative ones count from the end. Blocks behind the
            last of them are not computed.
        out_norm (bool): Whether outputs go through these norms.
        raster_parameters (bool): Whether step s of each walk takes its step size, B and C from token s in raster order,
            wherever it stands, as in the published weights.
        double_dt_bias (bool): Whether the bias of the step size counts twice, as in the published weights.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks with their outputs' norms too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which the tokens are scanned, see
            :func:`~mmvim.models.layers.resolve_walks`; all share one set of scan parameters.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = PlainMamba('l1', out_indices=(5, 11, 17, 23))
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 310))]
        [(1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20)]
    """

    input_weight: ClassVar[str] = 'patch_embed.stem.0.weight'
    blocks_name: ClassVar[str] = 'layers'
    tokens_first: ClassVar[bool] = True
    expected_missing: ClassVar[tuple[str, ...]] = ('outnorm*',)

    def __init__(
        self,
        arch: str | dict = 'l1',
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_norm: bool = True,
        raster_parameters: bool = False,
        double_dt_bias: bool = False,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'snake',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        dims, depth = arch['embed_dims'], arch['depth']
        super().__init__(dims, depth, out_indices, frozen_stages, with_cp, init_cfg)
        self.patch_embed = ConvPatchEmbed(in_channels, dims, arch.get('stem_convs', 1))
        self._add_positions(pretrain_img_size)
        mixer = {key: arch[key] for key in ('d_state', 'd_conv', 'expand', 'dt_rank') if key in arch}
        mixer |= {'raster_parameters': raster_parameters, 'double_dt_bias': double_dt_bias, 'walks': walks}
        self.layers = nn.ModuleList(
            PlainMambaBlock(dims, rate, i in arch.get('conv_blocks', ()), mixer)
            for i, rate in enumerate(drop_path_rates(drop_path_rate, depth))
        )
        for i in self.out_indices if out_norm else ():
            self.add_module(self._norm_name(i), nn.LayerNorm(dims, eps=1e-6))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C, H / 16, W / 16) per ``out_indices``, sides rounded up.

        Raises:
            ValueError: If the image has other channels.
        """
        x, grid = self._embed(image)
        outs = []
        for i, layer in enumerate(self.used_stages()):
            x = run_block(self, layer, x, grid)
            if i in self.out_indices:
                norm = getattr(self, self._norm_name(i), nn.Identity())
                outs.append(self._to_map(norm(x), grid))
        return tuple(outs)

    def _embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self.patch_embed(image)
        return x + self.position_embedding(self.pos_embed, grid), grid

    def _norm_name(self, block: int) -> str:
        return 'norm_f' if block == self.depth - 1 else f'outnorm{block}'

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        norms = [self._norm_name(i) for i in self.out_indices if i < self.frozen_stages]
        return super()._frozen() + [getattr(self, name) for name in norms if hasattr(self, name)]

    arch_zoo: ClassVar[dict[str, dict]] = {
        'l1': {'embed_dims': 192, 'depth': 24, 'stem_convs': 1, 'conv_blocks': (0,)},
        'l2': {'embed_dims': 384, 'depth': 24, 'stem_convs': 2},
        'l3': {'embed_dims': 448, 'depth': 36, 'stem_convs': 2},
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depth'}
    optional: ClassVar[set[str]] = {'stem_convs', 'conv_blocks', 'd_state', 'd_conv', 'expand', 'dt_rank'}
