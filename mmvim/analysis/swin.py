"""Swin (https://arxiv.org/abs/2103.14030) as the peer of VMamba, where mmdet and mmseg are not installed.

Attention is computed as in its authors' code and in mmdet: softmax(QK^T + bias)V, the scores of a window in memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 7


class WindowAttention(nn.Module):
    """Attention within windows of 7 x 7 tokens with a learned bias for each relative position."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)
        span = 2 * WINDOW - 1
        self.bias_table = nn.Parameter(torch.zeros(span**2, heads))
        place = torch.arange(WINDOW)
        offset = place[:, None] - place + WINDOW - 1
        index = offset[:, None, :, None] * span + offset[None, :, None, :]  # (row, column, row, column)
        self.register_buffer('index', index.flatten(2).flatten(0, 1), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (B, windows, 49, C) with a mask (windows, 49, 49) of what must not see each other."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1) + self.bias_table[self.index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask[:, None]
        return self.proj((scores.softmax(-1) @ v).transpose(2, 3).flatten(3))


class Block(nn.Module):
    def __init__(self, dims: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(dims), nn.LayerNorm(dims)
        self.attn = WindowAttention(dims, heads)
        self.mlp = nn.Sequential(nn.Linear(dims, 4 * dims), nn.GELU(), nn.Linear(4 * dims, dims))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """A map (B, H, W, C); ``mask`` is for the shifted windows."""
        x = x + self._attend(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        rows, columns = x.shape[1] // WINDOW, x.shape[2] // WINDOW
        windows = x.unflatten(2, (columns, WINDOW)).unflatten(1, (rows, WINDOW)).transpose(2, 3)
        windows = self.attn(windows.flatten(3, 4).flatten(1, 2), mask if self.shift else None)
        x = windows.unflatten(2, (WINDOW, WINDOW)).unflatten(1, (rows, columns)).transpose(2, 3).flatten(3, 4)
        x = x.flatten(1, 2)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class Merging(nn.Module):
    """2 x 2 neighbours side by side, norm, projection: (B, H, W, C) to (B, H/2, W/2, 2C)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dims)
        self.reduction = nn.Linear(4 * dims, 2 * dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    """Backbone of Swin: images (B, 3, H, W) to four normed maps at strides 4, 8, 16, 32.

    Args:
        dims: Channels of the first stage, 96 (T, S) or 128 (B); 32 per head.
        depths: Blocks per stage.
    """

    def __init__(self, dims: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2)) -> None:
        super().__init__()
        self.patch_embed, self.patch_norm = nn.Conv2d(3, dims, 4, 4), nn.LayerNorm(dims)
        widths = [dims * 2**i for i in range(len(depths))]
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(width, width // 32, WINDOW // 2 * (j % 2)) for j in range(depth))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.merging = nn.ModuleList(Merging(width) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self._masks: dict[tuple, Tensor] = {}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        x = self.patch_norm(self.patch_embed(image).permute(0, 2, 3, 1))
        outs = []
        for i, (blocks, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = x if i == 0 else self.merging[i - 1](x)
            mask = self._mask(x)
            for block in blocks:
                x = block(x, mask)
            outs.append(norm(x).permute(0, 3, 1, 2).contiguous())
        return tuple(outs)

    def _mask(self, x: Tensor) -> Tensor:
        """-100 between tokens of a shifted window that are no neighbours in the map, (windows, 49, 49)."""
        sizes = [side + -side % WINDOW for side in x.shape[1:3]]
        key = (*sizes, x.device, x.dtype)
        if key not in self._masks:
            # Shifted, the last window holds the end of the map and, from its third place on, the beginning.
            row, column = (torch.arange(size, device=x.device) for size in sizes)
            row, column = ((p >= len(p) - WINDOW).long() + (p >= len(p) - WINDOW // 2) for p in (row, column))
            region = (row[:, None] * 3 + column).unflatten(1, (-1, WINDOW)).unflatten(0, (-1, WINDOW))
            region = region.transpose(1, 2).flatten(2).flatten(0, 1)
            self._masks[key] = -100.0 * (region[:, :, None] != region[:, None]).to(x.dtype)
        return self._masks[key]
