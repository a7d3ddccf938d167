"""An image as a sequence of patches."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError


def check_images(image: Tensor, in_channels: int, patch_size: int) -> None:
    """Refuse what is no batch of images (B, in_channels, H, W), each at least one patch large.

    Raises:
        ValueError: If it is none.
    """
    if image.dim() != 4 or image.shape[1] != in_channels:
        raise UserValueError(f'expected images (B, {in_channels}, H, W), got {tuple(image.shape)}')
    height, width = image.shape[2:]
    if height < patch_size or width < patch_size:
        raise UserValueError(
            f'an image of {height} x {width} pixels is smaller than a patch of {patch_size} x {patch_size}: '
            'enlarge or pad it'
        )


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each, (B, in_channels, H, W) to tokens (B, Hp * Wp, embed_dims).

    Zeros are added at the right and at the bottom until the last patch is whole. Sizes that need none are cut as by an
    unpadded convolution: 224 in patches of 16 with stride 8 gives 27 x 27.

    Args:
        in_channels: Channels of the image.
        embed_dims: Channels of a token.
        patch_size: Side of a patch in pixels.
        stride: Distance between patches in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.patch_size = patch_size
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride)
        # LeCun normal, as Vim's authors initialise it.
        nn.init.normal_(self.proj.weight, std=(in_channels * patch_size**2) ** -0.5)
        nn.init.zeros_(self.proj.bias)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image, padding included."""
        return tuple(1 + -(-(side - self.patch_size) // self.stride) for side in (height, width))

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """
        Args:
            image: (B, in_channels, H, W).

        Returns:
            Tokens (B, Hp * Wp, embed_dims), row by row, and the grid (Hp, Wp).

        Raises:
            ValueError: If the input is no batch of images with ``in_channels`` channels, at least one patch large.
        """
        check_images(image, self.in_channels, self.patch_size)
        height, width = image.shape[2:]
        down, right = (-(side - self.patch_size) % self.stride for side in (height, width))
        if down or right:
            image = F.pad(image, (0, right, 0, down))
        x = self.proj(image)
        # Contiguous, as every sum of the residual stream keeps the strides of its first term.
        return x.flatten(2).transpose(1, 2).contiguous(), (x.shape[2], x.shape[3])
