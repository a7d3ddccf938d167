"""RoIAlign on a CPU as matrix products: mmcv's kernel runs on one thread and reads four pixels for every sample.

RoIAlign (https://arxiv.org/abs/1703.06870) averages samples on a grid in every bin of a region, each interpolated
bilinearly. Rows and columns of the grid are independent of each other, so that one matrix takes the pixel rows of a
region to its bins' rows, and another one the columns, for all channels at once.
"""

from types import MethodType

import torch
from torch import Tensor, nn


def pool_by_products(model: nn.Module) -> None:
    """Have every ``RoIAlign`` of mmcv that averages be computed by :func:`roi_align`; results differ by rounding.

    Args:
        model: For inference on a CPU; changed in place.
    """
    for module in model.modules():
        if type(module).__name__ == 'RoIAlign' and getattr(module, 'pool_mode', None) == 'avg':
            module.forward = MethodType(_forward, module)


def _forward(self: nn.Module, input: Tensor, rois: Tensor) -> Tensor:
    with torch.autocast('cpu', enabled=False):
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)


def roi_align(
    maps: Tensor, rois: Tensor, output_size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """mmcv's ``roi_align`` with ``pool_mode='avg'``.

    Args:
        maps: (B, C, H, W).
        rois: (R, 5): index of the map, then x1, y1, x2, y2 in pixels of the image.
        output_size: h and w, bins of a region.
        scale: Pixels of a map for one of the image.
        sampling_ratio: Samples in a bin along each side; 0 for one a pixel, as many as are begun.
        aligned: Whether pixels are half a pixel from the corner of the image.

    Returns:
        (R, C, h, w).
    """
    height, width = maps.shape[2:]
    corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    sizes = corners[:, 2:] - corners[:, :2]
    sizes = sizes if aligned else sizes.clamp(min=1)
    columns, left, right = _bin_weights(corners[:, 0], sizes[:, 0], output_size[1], width, sampling_ratio)
    rows, top, bottom = _bin_weights(corners[:, 1], sizes[:, 1], output_size[0], height, sampling_ratio)
    maps = maps.permute(0, 2, 3, 1).contiguous()
    out = maps.new_zeros(len(rois), *output_size, maps.shape[3])
    places = zip(rois[:, 0].long().tolist(), top, bottom, left, right, strict=True)
    for r, (image, y0, y1, x0, x1) in enumerate(places):
        if y0 < y1 and x0 < x1:
            pixels = maps[image, y0:y1, x0:x1].flatten(1)
            binned = (rows[r, :, y0:y1] @ pixels).view(output_size[0], x1 - x0, -1)
            torch.matmul(columns[r, :, x0:x1], binned, out=out[r])
    return out.permute(0, 3, 1, 2)


def _bin_weights(
    start: Tensor, size: Tensor, bins: int, side: int, sampling_ratio: int
) -> tuple[Tensor, list[int], list[int]]:
    """Weight of every pixel along a side in every bin (R, bins, side), and the range of pixels that have one."""
    grid = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else (size / bins).ceil()
    grid, size = grid[:, None, None], size[:, None, None]
    sample = torch.arange(max(int(grid.max()), 1) if len(grid) else 1)
    place = torch.arange(bins)[:, None] + (sample + 0.5) / grid.clamp(min=1)
    place = start[:, None, None] + place * (size / bins)  # (R, bins, samples)
    counts = (sample < grid) & (place >= -1) & (place <= side)
    place = place.clamp(0, side - 1)
    low = place.long()
    high = (low + 1).clamp(max=side - 1)
    share = place - low
    weight = counts / grid.clamp(min=1)
    weights = start.new_zeros(len(start), bins, side)
    weights.scatter_add_(2, low, weight * (1 - share)).scatter_add_(2, high, weight * share)
    first = low.where(counts, side).amin((1, 2)).tolist()
    last = high.where(counts, -1).amax((1, 2)).add(1).tolist()
    return weights, first, last
