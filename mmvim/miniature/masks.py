"""Masks in the two forms that COCO's JSON files know."""

import cv2
import numpy as np


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outline a mask along the edges of its pixels, so that filling the polygons gives the mask back.

    COCO's polygons have no holes: a part with a hole is cut in two through it.

    Args:
        mask: (H, W) bool.

    Returns:
        One ``[x0, y0, x1, y1, ...]`` for each part, empty for an empty mask.
    """
    # In the doubled mask pixel x covers 2x and 2x + 1, whose halves, rounded up, are the two edges of the pixel.
    double = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if hierarchy is None:
        return []
    holes = [contour for contour, (*_, parent) in zip(contours, hierarchy[0], strict=True) if parent >= 0]
    if holes:
        left = mask.copy()
        left[:, holes[0][:, 0, 0].min() // 2 + 1 :] = False  # from the first column of the hole on
        return polygons(left) + polygons(mask & ~left)
    return [_corners((contour[:, 0] + 1) // 2).ravel().astype(float).tolist() for contour in contours]


def _corners(points: np.ndarray) -> np.ndarray:
    """Drop from a closed path of steps of one pixel (N, 2) all points at which it does not turn."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    straight = (points - np.roll(points, 1, axis=0)) == (np.roll(points, -1, axis=0) - points)
    return points[~straight.all(axis=1)]


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed run-length code of a mask (H, W) bool: down the columns, the first run counts zeros."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return {'counts': ([0] if flat[0] else []) + runs.tolist(), 'size': list(mask.shape)}
