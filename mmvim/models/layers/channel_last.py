"""Parts of networks that keep maps channel-last, (B, H, W, C)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError

ACTIVATIONS = {'silu': nn.SiLU, 'gelu': nn.GELU, 'relu': nn.ReLU}


def build_activation(name: str) -> nn.Module:
    """``'silu'``, ``'gelu'`` (the exact one) or ``'relu'``.

    Raises:
        ValueError: If it is none of them.
    """
    if name not in ACTIVATIONS:
        raise UserValueError(f'activation {name!r}: expected one of {", ".join(map(repr, ACTIVATIONS))}')
    return ACTIVATIONS[name]()


class ConvNorm(nn.Module):
    """A strided convolution and LayerNorm, (B, H, W, C) to (B, H', W', out_channels).

    Args:
        in_channels: C.
        out_channels: Channels of the result.
        kernel_size: Side of the kernel.
        stride: Step of the kernel.
        padding: Zeros added on each side.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Swin's downsampling: 2 x 2 neighbours side by side, LayerNorm, projection, (B, H, W, C) to (B, H/2, W/2, 2C).

    Zeros are added at the right and at the bottom where a side is odd, as in VMamba's last version; the one that its
    first generation was trained with left the last row or column out.

    Args:
        in_channels: C.
        out_channels: Channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels)
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        # Neighbours in the order of columns: right of a pixel comes after below it.
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class MLP(nn.Module):
    """Two linear layers with an activation between, over the last axis.

    Args:
        dims: Channels in and out.
        hidden: Channels between.
        act: Name of the activation.
    """

    def __init__(self, dims: int, hidden: int, act: str = 'gelu') -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden)
        self.act = build_activation(act)
        self.fc2 = nn.Linear(hidden, dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
