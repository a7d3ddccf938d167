"""What MambaVision's stages are made of: https://arxiv.org/abs/2407.08083."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.models.layers import MLP, DropPath, MakeWalks, init_scan_parameters, resolve_walks
from mmvim.ops import Walks, scan, walk_conv, walks

from .deit import Attention

_TAPS, _STATES = 3, 8


class Stem(nn.Module):
    """Two convolutions of stride 2 with BatchNorm, (B, H, W, in_channels) to (B, H / 4, W / 4, dims).

    Args:
        in_channels: Channels of the image.
        hidden: Channels between the convolutions.
        dims: Channels of the result.
    """

    def __init__(self, in_channels: int, hidden: int, dims: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden, eps=1e-4)
        self.conv2 = nn.Conv2d(hidden, dims, 3, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(dims, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """A half pixel that stride 2 leaves counts as a whole one."""
        # Seen as (B, C, H, W) in channels-last memory, which convolutions and norms keep.
        x = F.relu(self.norm1(self.conv1(x.permute(0, 3, 1, 2))))
        return F.relu(self.norm2(self.conv2(x))).permute(0, 2, 3, 1)


class Downsample(nn.Module):
    """A convolution of stride 2 without a norm, (B, H, W, C) to (B, H / 2, W / 2, 2C); an odd side is rounded up."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dims, 2 * dims, 3, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvBlock(nn.Module):
    """Two convolutions of 3 x 3 with BatchNorm, and a residual connection.

    Args:
        dims: C, channels of the map.
        drop_path: Probability of leaving the branch out.
    """

    def __init__(self, dims: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dims, dims, 3, padding=1)
        self.norm = nn.BatchNorm2d(dims)
        self.conv2 = nn.Conv2d(dims, dims, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        y = F.gelu(self.norm(self.conv1(x.permute(0, 3, 1, 2))), approximate='tanh')
        return x + self.drop_path(self.norm2(self.conv2(y)).permute(0, 2, 3, 1))


@lru_cache
def _one_behind(length: int) -> Walks:
    """Rows over a sequence, and a step without a token behind its end."""
    return walks.from_table([[*range(length), -1]], 1, length)


class WindowMixer(nn.Module):
    """MambaVision's mixer: half of the channels are scanned, the other half are only convolved, and both projected.

    The convolution looks one token ahead and one back, unlike Mamba's causal one, and there is no gate.

    Args:
        dims: C, channels of a token, even.
        window: Side of the windows, whose tokens are a sequence row by row.
        walks: Orders in which a window is scanned, see :func:`resolve_walks`; each has scan parameters of its own.
    """

    def __init__(self, dims: int, window: int, walks: str | Sequence[str] | MakeWalks = 'rows') -> None:
        super().__init__()
        self.dt_rank = math.ceil(dims / 16)
        make, num_walks = resolve_walks(walks)
        self.walks, self.conv_walk = make(window, window), _one_behind(window**2)
        self.in_proj = nn.Linear(dims, dims, bias=False)
        bound = _TAPS**-0.5
        self.conv1d_weight = nn.Parameter(torch.empty(1, dims, _TAPS).uniform_(-bound, bound))
        for name, parameter in init_scan_parameters(num_walks, dims // 2, _STATES, self.dt_rank).items():
            self.register_parameter(name, parameter)
        # The authors' code initialises every linear layer alike in the end, the projection of the steps too.
        nn.init.trunc_normal_(self.x_proj_weight, std=0.02)
        nn.init.trunc_normal_(self.dt_projs_weight, std=0.02)
        nn.init.zeros_(self.dt_projs_bias)
        self.out_proj = nn.Linear(dims, dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of windows (B, L, C) to (B, L, C)."""
        # Causal, but a step later than the token: the step that stands at its right neighbour, or behind the end.
        x = walk_conv(self.in_proj(x), self.conv1d_weight, walks=self.conv_walk, order='step')[:, 0, 1:]
        u, symmetric = x.chunk(2, -1)
        projected = u.unsqueeze(1) @ self.x_proj_weight.transpose(-1, -2)  # (B, K, L, R + 2N)
        delta, B, C = projected.split([self.dt_rank, _STATES, _STATES], -1)
        # The authors add the bias of the steps in the projection, and once more in the scan. So trained, it stays.
        y = scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=self.walks,
            delta_bias=2 * self.dt_projs_bias, dt_weight=self.dt_projs_weight,
        )  # fmt: skip
        return self.out_proj(torch.cat([y, symmetric], -1))


class WindowBlock(nn.Module):
    """A mixer or attention within windows and an MLP, each behind a norm and with a residual connection.

    Args:
        dims: C, channels of a token.
        mixer: Takes (B, L, C) to (B, L, C).
        drop_path: Probability of leaving a branch out, for each window on its own.
        mlp_ratio: Hidden channels of the MLP / C.
        layer_scale: What a factor per channel behind each branch starts from; None for no such factors.
    """

    def __init__(
        self, dims: int, mixer: nn.Module, drop_path: float, mlp_ratio: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dims)
        self.mlp = MLP(dims, int(mlp_ratio * dims))
        self.drop_path = DropPath(drop_path)
        for name in ('gamma_1', 'gamma_2'):
            gamma = None if layer_scale is None else nn.Parameter(torch.full((dims,), float(layer_scale)))
            self.register_parameter(name, gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of windows (B, L, C) to (B, L, C)."""
        x = x + self.drop_path(_scaled(self.mixer(self.norm(x)), self.gamma_1))
        return x + self.drop_path(_scaled(self.mlp(self.norm2(x)), self.gamma_2))


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else gamma * x


def window_mixers(
    dims: int, depth: int, heads: int, window: int, walks: str | Sequence[str] | MakeWalks
) -> list[nn.Module]:
    """Of ``depth`` blocks the first half scans, the middle one of an odd number too; the others attend."""
    scans = (depth + 1) // 2
    return [WindowMixer(dims, window, walks) if i < scans else Attention(dims, heads) for i in range(depth)]
