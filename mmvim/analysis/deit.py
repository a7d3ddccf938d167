"""DeiT (https://arxiv.org/abs/2012.12877) as the peer of Vim, in two ways of computing attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, dims: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        # each (B, heads, L, dims / heads)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dims: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dims, eps=1e-6), nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads, fused)
        self.mlp = nn.Sequential(nn.Linear(dims, 4 * dims), nn.GELU(), nn.Linear(4 * dims, dims))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """Backbone of DeiT-Ti or DeiT-S with 16 pixel patches: images (B, 3, H, W) to a map (B, dims, H / 16, W / 16).

    Args:
        dims: 192 (Ti) or 384 (S); 64 per head.
        image: (H, W), for the position embedding.
        fused: ``F.scaled_dot_product_attention``, or softmax(QK^T)V with the matrix of scores in memory.
    """

    def __init__(self, dims: int, image: tuple[int, int], fused: bool, depth: int = 12) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dims, 16, 16)
        self.grid = image[0] // 16, image[1] // 16
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.pos_embed = nn.Parameter(torch.randn(1, self.grid[0] * self.grid[1] + 1, dims) * 0.02)
        self.blocks = nn.Sequential(*(Block(dims, dims // 64, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(dims, eps=1e-6)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = self.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        x = self.norm(self.blocks(x))
        return (x[:, 1:].transpose(1, 2).unflatten(2, self.grid).contiguous(),)
