"""What the loss of rotated boxes by their common area lacks in mmcv on a CPU: corners of a polygon in their order."""

from types import SimpleNamespace

import torch
from torch import Tensor


def let_rotated_iou_run_on_cpu() -> None:
    """Have mmcv's ``diff_iou_rotated_2d``, of which it has one step for GPUs alone, take :func:`sort_vertices`."""
    from mmcv.ops import diff_iou_rotated

    diff_iou_rotated.ext_module = SimpleNamespace(diff_iou_rotated_sort_vertices_forward=sort_vertices)


def sort_vertices(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """The way around convex polygons whose corners are given in any order.

    Args:
        vertices: (B, N, V, 2), about a point inside of the polygon.
        mask: (B, N, V) bool, which of them are corners.
        num_valid: (B, N), how many are.

    Returns:
        (B, N, M) int64, indices of the corners by their angle, then the first one until the end, which adds no area.
    """
    angles = torch.atan2(vertices[..., 1], vertices[..., 0]).masked_fill(~mask, torch.inf)
    longest = int(num_valid.max()) + 1 if num_valid.numel() else 1
    order = angles.argsort(dim=-1)
    order = torch.cat([order, order[..., :1]], dim=-1)[..., :longest]
    return order.where(torch.arange(longest) < num_valid[..., None], order[..., :1])
