"""Draws what stands on the ground as seen from above: turned by any angle, each with a box along its own sides."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .scenes import Rng, textured

#: Least share of an object that lies within the picture.
LEAST_INSIDE = 0.7


@dataclass(frozen=True)
class Kind:
    """A class of DOTA.

    Attributes:
        texture: The scene class whose texture it has.
        length: Least and greatest length, as a share of the picture's shorter side.
        slim: Width over length.
        outline: (N, 2) corners in a unit square, x along the object.
    """

    texture: str
    length: tuple[float, float]
    slim: float
    outline: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OrientedObject:
    """One object: its class, the (4, 2) corners of its box as x and y, clockwise from the left end of its nose, and
    DOTA's difficulty: 0, or 2 for one that the picture cuts off."""

    name: str
    corners: np.ndarray
    difficulty: int


BOX = ((0, 0), (1, 0), (1, 1), (0, 1))
_ROUND = tuple((0.5 + 0.5 * np.cos(turn), 0.5 + 0.5 * np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 25)[:-1])
_PLANE = (
    (0, 0.3), (0.12, 0.42), (0.36, 0.42), (0.3, 0), (0.46, 0), (0.64, 0.42), (0.94, 0.42), (1, 0.5), (0.94, 0.58),
    (0.64, 0.58), (0.46, 1), (0.3, 1), (0.36, 0.58), (0.12, 0.58), (0, 0.7),
)  # fmt: skip
KINDS = {
    'plane': Kind('airplane', (0.2, 0.36), 0.9, _PLANE),
    'ship': Kind('boat', (0.18, 0.34), 0.32, ((0, 0), (0.7, 0), (1, 0.5), (0.7, 1), (0, 1))),
    'small-vehicle': Kind('car', (0.09, 0.13), 0.55, BOX),
    'large-vehicle': Kind('building', (0.2, 0.28), 0.36, BOX),
    'tennis-court': Kind('person', (0.24, 0.36), 0.5, BOX),
    'storage-tank': Kind('dog', (0.12, 0.22), 1.0, _ROUND),
}


def render_oriented(rng: Rng, height: int, width: int) -> tuple[np.ndarray, list[OrientedObject]]:
    """Draw one picture from above.

    Args:
        rng: The only source of chance.
        height, width: Size of the picture in pixels.

    Returns:
        (H, W, 3) uint8, RGB, and the objects on it, none of which hides another.
    """
    image = _ground(rng, height, width)
    taken = np.zeros((height, width), dtype=bool)
    objects = []
    for _ in range(int(rng.integers(4, 9))):
        name = str(rng.choice(list(KINDS)))
        kind = KINDS[name]
        length = rng.uniform(*kind.length) * min(height, width)
        middle, angle = rng.random(2) * (width, height), rng.uniform(0, 2 * np.pi)
        box = turned(BOX, length, kind.slim, middle, angle)
        inside = _share_inside(box, height, width)
        mask = filled(turned(kind.outline, length, kind.slim, middle, angle), height, width)
        if inside < LEAST_INSIDE or (taken & mask).any():
            continue
        taken |= cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        image[window][mask[window]] = textured(rng, kind.texture, *mask[window].shape)[mask[window]]
        objects.append(OrientedObject(name, box[[1, 2, 3, 0]], 0 if inside == 1 else 2))
    light = rng.uniform(0.9, 1.05) * image + rng.normal(0, 5, image.shape)
    return np.clip(light, 0, 255).astype(np.uint8), objects


def _ground(rng: Rng, height: int, width: int) -> np.ndarray:
    """One or two grounds with a straight edge between them."""
    first, second = rng.permutation(['road', 'grass', 'water'])[:2]
    image = textured(rng, str(first), height, width)
    rows, columns = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(0.2, 0.8, 2) * (width, height)
    other = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) > 0
    image[other] = textured(rng, str(second), height, width)[other]
    return image


def turned(
    outline: tuple[tuple[float, float], ...], length: float, slim: float, middle: np.ndarray, angle: float
) -> np.ndarray:
    """An outline of the unit square, stretched, turned clockwise about its middle and put in place: (N, 2)."""
    along, across = ((np.array(outline) - 0.5) * (length, length * slim)).T
    x, y = along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)
    return np.stack([x, y], axis=1) + middle


def filled(points: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    return cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1).astype(bool)


def _share_inside(box: np.ndarray, height: int, width: int) -> float:
    """How much of a box (4, 2) lies within the picture, 0 to 1."""
    if (box >= 0).all() and (box <= (width, height)).all():
        return 1.0
    picture = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    common, _ = cv2.intersectConvexConvex(box.astype(np.float32), picture)
    return common / cv2.contourArea(box.astype(np.float32))
