"""PlainMamba's adapter for detection, which is ViT-Adapter's: https://arxiv.org/abs/2205.08534."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import DropPath
from mmvim.models.layers.deformable import DeformableAttention, Grids, centres
from mmvim.registry import register_backbone

from .base import run_block
from .plainmamba import PlainMamba

INTERACTIONS, EPS = 4, 1e-6


def _conv(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


class SpatialPrior(nn.Module):
    """Convolutions that take an image to maps (B, C, h, w) at strides 4, 8, 16 and 32, sides rounded up.

    Args:
        in_channels (int): Channels of the image.
        dims (int): C.
        width (int): Channels at the finest stride; four times as many at the coarsest.
    """

    def __init__(self, in_channels: int, dims: int, width: int = 64) -> None:
        super().__init__()
        finest = [*_conv(in_channels, width, 2), *_conv(width, width, 1), *_conv(width, width, 1)]
        self.stem = nn.Sequential(*finest, nn.MaxPool2d(3, 2, 1))
        self.conv2 = nn.Sequential(*_conv(width, 2 * width, 2))
        self.conv3 = nn.Sequential(*_conv(2 * width, 4 * width, 2))
        self.conv4 = nn.Sequential(*_conv(4 * width, 4 * width, 2))
        self.fc1, self.fc2 = nn.Conv2d(width, dims, 1), nn.Conv2d(2 * width, dims, 1)
        self.fc3, self.fc4 = nn.Conv2d(4 * width, dims, 1), nn.Conv2d(4 * width, dims, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to four maps, the finest first."""
        maps = [self.stem(image)]
        for conv in (self.conv2, self.conv3, self.conv4):
            maps.append(conv(maps[-1]))
        return [fc(x) for fc, x in zip((self.fc1, self.fc2, self.fc3, self.fc4), maps, strict=True)]


class LevelConv(nn.Module):
    """One depthwise convolution over each of several maps, given as tokens."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dims, dims, 3, padding=1, groups=dims)

    def forward(self, x: Tensor, grids: Grids) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        maps = x.split([height * width for height, width in grids], 1)
        maps = [x.transpose(1, 2).unflatten(2, grid) for x, grid in zip(maps, grids, strict=True)]
        return torch.cat([self.dwconv(x).flatten(2).transpose(1, 2) for x in maps], 1)


class ConvFFN(nn.Module):
    """An MLP of a quarter of the channels, with a convolution in front of its activation."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, dims // 4)
        self.dwconv = LevelConv(dims // 4)
        self.fc2 = nn.Linear(dims // 4, dims)

    def forward(self, x: Tensor, grids: Grids) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), grids)))


class Injector(nn.Module):
    """Tokens look at the maps; nothing comes of it at the start of training."""

    def __init__(self, dims: int, num_heads: int) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dims, eps=EPS), nn.LayerNorm(dims, eps=EPS)
        self.attn = DeformableAttention(dims, num_heads, num_levels=3)
        self.gamma = nn.Parameter(torch.zeros(dims))

    def forward(self, x: Tensor, places: Tensor, c: Tensor, grids: Grids) -> Tensor:
        """Tokens x (B, L, C) at ``places`` and the tokens c of the maps to (B, L, C)."""
        return x + self.gamma * self.attn(self.query_norm(x), places, self.feat_norm(c), grids)


class Extractor(nn.Module):
    """The maps look at the tokens, then each goes through a :class:`ConvFFN`."""

    def __init__(self, dims: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dims, eps=EPS), nn.LayerNorm(dims, eps=EPS)
        self.attn = DeformableAttention(dims, num_heads, num_levels=1)
        self.ffn = ConvFFN(dims)
        self.ffn_norm = nn.LayerNorm(dims, eps=EPS)
        self.drop_path = DropPath(drop_path)

    def forward(self, c: Tensor, places: Tensor, x: Tensor, grid: tuple[int, int], grids: Grids) -> Tensor:
        """Tokens c (B, L', C) of maps of ``grids`` and tokens x of ``grid`` to (B, L', C)."""
        c = c + self.attn(self.query_norm(c), places, self.feat_norm(x), [grid])
        return c + self.drop_path(self.ffn(self.ffn_norm(c), grids))


class Interaction(nn.Module):
    """What stands around one part of the blocks: in front an injector, behind them an extractor, at the end three."""

    def __init__(self, dims: int, num_heads: int, drop_path: float, last: bool) -> None:
        super().__init__()
        self.injector = Injector(dims, num_heads)
        self.extractor = Extractor(dims, num_heads, drop_path)
        self.extra_extractors = nn.ModuleList(Extractor(dims, num_heads, drop_path) for _ in range(2 * last))


@register_backbone
class PlainMambaAdapter(PlainMamba):
    """PlainMamba between convolutions that give and take what the one map of its tokens lacks: four maps for detection.

    The adapter of `ViT-Adapter <https://arxiv.org/abs/2205.08534>`_, as PlainMamba's authors put it around theirs. In
    four parts, its blocks look at maps of strides 8, 16 and 32 by deformable attention, and these look at the tokens.

    Args:
        arch (str | dict): As for :class:`PlainMamba`, and in a dict, if wanted, ``num_heads`` (int): heads of the
            attention, which divide the channels. Defaults to 6.
        out_indices (int | Sequence[int]): Maps that are returned, of strides 4, 8, 16 and 32, through a BatchNorm each.
            All blocks are computed whatever they are.
        drop_path_rate (float): Stochastic depth of the last block, rising linearly from 0, and that of the extractors.
        frozen_stages (int): Blocks of PlainMamba that are not trained, its embeddings included; what is around them is.
        init_cfg (dict | list[dict] | None): As for :class:`PlainMamba`; of a classifier's file, what is around the
            blocks starts as new.
        **others: Those of :class:`PlainMamba`; there are no norms of blocks' outputs.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = PlainMambaAdapter('l1')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 310))]
        [(1, 192, 56, 78), (1, 192, 28, 39), (1, 192, 14, 20), (1, 192, 7, 10)]
    """

    expected_missing: ClassVar[tuple[str, ...]] = ('spm', 'level_embed', 'interactions', 'up', 'ad_norm?')

    def __init__(
        self,
        arch: str | dict = 'l1',
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(arch, in_channels=in_channels, drop_path_rate=drop_path_rate, out_norm=False, **others)
        self.levels = self._resolve_out_indices(out_indices, 4, 'maps')
        if self.depth < INTERACTIONS:
            raise UserValueError(f'depth {self.depth}: expected at least {INTERACTIONS} blocks, one for each part')
        dims, heads = self.embed_dims, self._resolve_arch(arch).get('num_heads', 6)
        self.spm = SpatialPrior(in_channels, dims)
        self.level_embed = nn.Parameter(torch.randn(3, dims))
        self.level_embed._no_weight_decay = True
        self.interactions = nn.ModuleList(
            Interaction(dims, heads, drop_path_rate, last=i == INTERACTIONS - 1) for i in range(INTERACTIONS)
        )
        self.up = nn.ConvTranspose2d(dims, dims, 2, 2)
        for i in range(4):
            self.add_module(f'ad_norm{i + 1}', nn.BatchNorm2d(dims))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C, h, w) per ``out_indices``, at strides 4, 8, 16 and 32, sides rounded up.

        Raises:
            ValueError: If the image has other channels.
        """
        x, grid = self._embed(image)
        finest, *maps = self.spm(image)
        grids = [tuple(c.shape[2:]) for c in maps]
        c = torch.cat([c.flatten(2).transpose(1, 2) + e for c, e in zip(maps, self.level_embed, strict=True)], 1)
        inside, around = centres([grid], x), centres(grids, x)
        for i, interaction in enumerate(self.interactions):
            x = run_block(self, interaction.injector, x, inside, c, grids)
            for layer in self.layers[self._start(i) : self._start(i + 1)]:
                x = run_block(self, layer, x, grid)
            for extractor in (interaction.extractor, *interaction.extra_extractors):
                c = run_block(self, extractor, c, around, x, grid, grids)
        maps = c.split([height * width for height, width in grids], 1)
        maps = [self._to_map(c, grid) for c, grid in zip(maps, grids, strict=True)]
        height, width = finest.shape[2:]
        maps.insert(0, finest + self.up(maps[0])[:, :, :height, :width])
        tokens, outs = self._to_map(x, grid), []
        for i in self.levels:
            resized = F.interpolate(tokens, maps[i].shape[2:], mode='bilinear', align_corners=False)
            outs.append(getattr(self, f'ad_norm{i + 1}')(maps[i] + resized))
        return tuple(outs)

    def maps(self) -> list[tuple[int, int]]:
        """See :meth:`Backbone.maps`."""
        return [(self.embed_dims, 4 * 2**i) for i in self.levels]

    def _start(self, interaction: int) -> int:
        """The first block behind that injector."""
        return interaction * self.depth // INTERACTIONS

    arch_zoo: ClassVar[dict[str, dict]] = {
        name: {**arch, 'num_heads': 8 if name == 'l3' else 6} for name, arch in PlainMamba.arch_zoo.items()
    }
    optional: ClassVar[set[str]] = {*PlainMamba.optional, 'num_heads'}
