"""Masks of objects in a large image, each kept in its own small rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patch:
    """A mask and where it is.

    Attributes:
        left, top: first column and row, in pixels of the image.
        pixels: (h, w) bool.
    """

    left: int
    top: int
    pixels: np.ndarray


def cut_out(mask: np.ndarray, left: int, top: int) -> Patch:
    """What is set of a mask (H, W) of a window that begins at ``left`` and ``top``; (0, 0) pixels if nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Patch(left, top, np.zeros((0, 0), dtype=bool))
    x, y = int(columns[0]), int(rows[0])
    return Patch(left + x, top + y, mask[y : rows[-1] + 1, x : columns[-1] + 1].copy())  # a view would keep the window


def union(patches: Sequence[Patch]) -> Patch:
    """All that is set in any of them."""
    patches = [patch for patch in patches if patch.pixels.size] or list(patches[:1])
    left, top = min(patch.left for patch in patches), min(patch.top for patch in patches)
    right = max(patch.left + patch.pixels.shape[1] for patch in patches)
    bottom = max(patch.top + patch.pixels.shape[0] for patch in patches)
    pixels = np.zeros((bottom - top, right - left), dtype=bool)
    for patch in patches:
        height, width = patch.pixels.shape
        y, x = patch.top - top, patch.left - left
        pixels[y : y + height, x : x + width] |= patch.pixels
    return Patch(left, top, pixels)


def run_lengths(patch: Patch, height: int, width: int) -> dict:
    """A mask as COCO's compressed run lengths in an image of this size, which is never made: ``{'size', 'counts'}``.

    The runs go down one column after the other.
    """
    from pycocotools import mask as coco

    framed = np.pad(patch.pixels, ((1, 1), (0, 0))).T.astype(np.int8)  # columns, with nothing above and below
    column, row = np.nonzero(np.diff(framed, axis=1))
    places = (patch.left + column) * height + patch.top + row  # where ones begin and end, in turn
    places, times = np.unique(places, return_counts=True)
    # Where ones end and go on at the top of the next column nothing changes, nor does at the end of the image.
    places = places[(times == 1) & (places < height * width)]
    counts = np.diff(places, prepend=0, append=height * width)
    packed = coco.frPyObjects({'size': [height, width], 'counts': counts.tolist()}, height, width)
    return {'size': [height, width], 'counts': packed['counts'].decode()}
