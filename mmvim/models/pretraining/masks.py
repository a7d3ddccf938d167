"""Which parts of an image a model does not see."""

from math import ceil

import torch
from torch import Tensor

from mmvim.errors import UserValueError


def draw_masks(count: int, height: int, width: int, patch: int, ratio: float, device: torch.device) -> Tensor:
    """Draw for each image the squares that are hidden, the same number in all of them, rounded up, and never all.

    Args:
        count: B, number of images.
        height: Of the images, in pixels.
        width: The same.
        patch: Side of a square in pixels; those at the right and at the bottom may be cut off.
        ratio: Of the squares that are hidden.
        device: Where the numbers are drawn.

    Returns:
        (B, ceil(height / patch), ceil(width / patch)) of bool, True where hidden.

    Raises:
        ValueError: If an image is smaller than a square, or has only one.
    """
    rows, columns = -(-height // patch), -(-width // patch)
    squares = rows * columns
    if min(height, width) < patch or squares < 2:
        raise UserValueError(
            f'images of {height} x {width} pixels: expected at least one mask patch of {patch} x {patch} in each '
            'direction, and two in all; enlarge them (scale of RandomResizedCrop) or set a smaller mask_patch_size'
        )
    hidden = min(ceil(ratio * squares), squares - 1)
    # A sorted row of random numbers is a permutation, in which the numbers below `hidden` are anywhere.
    return (torch.rand(count, squares, device=device).argsort(1) < hidden).unflatten(1, (rows, columns))


def enlarge(masks: Tensor, times: int, height: int, width: int) -> Tensor:
    """Masks (B, rows, columns) with ``times`` places for one in each direction, cut to (B, height, width)."""
    return masks.repeat_interleave(times, 1).repeat_interleave(times, 2)[:, :height, :width]
