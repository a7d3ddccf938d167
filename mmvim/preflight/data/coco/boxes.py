"""Boxes: x, y, width and height in pixels, inside of their image."""

from __future__ import annotations

import numpy as np

from ..tally import Kind, Severity, Tally
from .file import CocoFile

TOLERANCE = 1.0  # pixels; exports round

NO_BOX = Kind(
    Severity.LEFT_OUT, 'boxes that are missing or not four numbers', 'bbox is [x, y, width, height] in pixels.'
)
FLAT = Kind(
    Severity.LEFT_OUT,
    'boxes of no width or no height',
    'draw them again or take them out; bbox is [x, y, width, height] in pixels.',
)
TINY = Kind(
    Severity.WARNING,
    'boxes below one pixel, which mmdet leaves out',
    'take them out, or scale the images up and them too.',
)
AWAY = Kind(
    Severity.LEFT_OUT,
    'boxes wholly outside of their image',
    'draw them again, or see whether they belong to another one.',
)
BEYOND = Kind(
    Severity.WARNING,
    'boxes that reach beyond their image',
    'cut them off at its border, or see whether its size is right.',
)
CORNERS = Kind(
    Severity.ERROR,
    'annotation files whose boxes look like x0, y0, x1, y1',
    'write x, y, width, height: read as they are, many boxes end outside, and read as two corners none does.',
)
FRACTIONS = Kind(
    Severity.ERROR, 'annotation files whose boxes are fractions of the image', 'multiply them by its width and height.'
)


def check_boxes(file: CocoFile, tally: Tally) -> None:
    """Check all boxes; those that are none are left out."""
    if not len(file.boxes):
        return
    finite = np.isfinite(file.boxes).all(axis=1)
    missing = np.flatnonzero(~finite)
    file.report(tally, NO_BOX, missing, lambda at: f'bbox {file.annotations[at].get("bbox")!r:.60}')
    file.left_out[missing] = True
    x, y, width, height = file.boxes.T
    known = finite & (file.image_index >= 0)
    image_width, image_height = file.sizes[file.image_index].T
    if known.any() and (file.boxes[known] <= 1).all() and (file.boxes[known] > 0).any() and known.sum() > 1:
        tally.add(FRACTIONS, f'{file.path}: no number of {known.sum()} boxes is above 1')
        return
    right, bottom = image_width + TOLERANCE, image_height + TOLERANCE
    with np.errstate(invalid='ignore'):
        flat = finite & ((width <= 0) | (height <= 0))
        tiny = finite & ~flat & ((width < 1) | (height < 1))
        away = known & ~flat & ((x >= image_width) | (y >= image_height) | (x + width <= 0) | (y + height <= 0))
        outside = (x + width > right) | (y + height > bottom)
        beyond = known & ~flat & ~away & (outside | (x < -TOLERANCE) | (y < -TOLERANCE))
        corners = known & (width > x) & (height > y) & (width <= right) & (height <= bottom)
    if corners[known].all() and (known & outside).sum() > 0.2 * known.sum() and known.sum() > 1:
        tally.add(CORNERS, f'{file.path}: {(known & outside).sum()} of {known.sum()} boxes end outside')
        return
    for kind, found in ((FLAT, flat), (TINY, tiny), (AWAY, away)):
        file.report(tally, kind, np.flatnonzero(found), lambda at: f'bbox {_numbers(file, at)}')
        file.skipped |= found
    file.report(tally, BEYOND, np.flatnonzero(beyond), lambda at: f'bbox {_numbers(file, at)} in {_size(file, at)}')


def _numbers(file: CocoFile, position: int) -> list[float]:
    return [round(value, 2) for value in file.boxes[position].tolist()]


def _size(file: CocoFile, position: int) -> str:
    width, height = file.sizes[file.image_index[position]]
    return f'{width:.0f} x {height:.0f}'
