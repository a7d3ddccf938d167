"""Draws small street and shore scenes whose classes are told apart by texture and shape, not by colour.

Every region and object draws one dark and one light colour from the same palette, whatever its class, and mixes them
by a pattern of its class that is at home in a few pixels: waves for water, spots for a dog, a grid of windows for a
building. So a pixel's colour says nothing about its class, a patch of 16 x 16 pixels nearly everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mmvim.errors import UserValueError

from .categories import SCENE_CLASSES

Rng = np.random.Generator

#: Shortest side in pixels at which the objects still have a shape.
SMALLEST_SIDE = 32

# RGB. One dark and one light colour make a region; all classes draw from all of them.
_DARK = np.array(
    [[52, 60, 72], [88, 52, 44], [38, 78, 58], [70, 50, 92], [36, 66, 108], [92, 76, 34]], dtype=np.float32
)
_LIGHT = np.array(
    [[196, 204, 210], [226, 170, 146], [160, 206, 150], [206, 176, 226], [150, 190, 232], [232, 214, 140]],
    dtype=np.float32,
)

# ---------------------------------------------------------------------------------------------- textures
# Each takes (rng, height, width) and gives (height, width) float32, about half of it near 0 and half near 1.


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows, columns


def _stretch(field: np.ndarray, gain: float) -> np.ndarray:
    """Centre a random field on 0.5 and clip it, so that ``gain`` standard deviations fill [0, 1]."""
    field = (field - field.mean()) / max(float(field.std()), 1e-6)
    return np.clip(0.5 + field / gain, 0, 1)


def _noise(rng: Rng, height: int, width: int, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(rng.random((height, width), dtype=np.float32), -1, kernel, borderType=cv2.BORDER_REFLECT)


def _streaks(rng: Rng, height: int, width: int, degrees: float, length: int = 9) -> np.ndarray:
    """Irregular strokes: noise smeared along one direction (0 = along a row, 90 = along a column)."""
    kernel = np.zeros((length, length), dtype=np.float32)
    middle = length // 2
    dx, dy = np.cos(np.deg2rad(degrees)) * middle, -np.sin(np.deg2rad(degrees)) * middle
    ends = [(round(middle + sign * dx), round(middle + sign * dy)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return _stretch(_noise(rng, height, width, kernel / kernel.sum()), 2.5)


def _clouds(rng: Rng, height: int, width: int) -> np.ndarray:
    coarse = rng.random((max(height // 24, 2), max(width // 32, 2)), dtype=np.float32)
    return _stretch(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 4)


def _leaves(rng: Rng, height: int, width: int) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.random((height, width), dtype=np.float32), (0, 0), 1.6)
    return _stretch(noise, 2)


def _gravel(rng: Rng, height: int, width: int) -> np.ndarray:
    return np.clip(rng.normal(0.5, 0.22, (height, width)), 0, 1).astype(np.float32)


def _waves(rng: Rng, height: int, width: int) -> np.ndarray:
    rows, columns = _grid(height, width)
    period, phase, bend = rng.uniform(5, 6.5), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    return 0.5 + 0.5 * np.sin(2 * np.pi * rows / period + 0.9 * np.sin(2 * np.pi * columns / 19 + bend) + phase)


def _windows(rng: Rng, height: int, width: int) -> np.ndarray:
    rows, columns = _grid(height, width)
    pitch = int(rng.integers(7, 10))
    row, column = rng.integers(0, pitch, 2)
    return (((rows + row) % pitch >= 3) & ((columns + column) % pitch >= 3)).astype(np.float32)


def _checks(rng: Rng, height: int, width: int) -> np.ndarray:
    rows, columns = _grid(height, width)
    side = int(rng.integers(3, 5))
    row, column = rng.integers(0, 2 * side, 2)
    return ((rows + row) // side + (columns + column) // side) % 2


def _spots(rng: Rng, height: int, width: int) -> np.ndarray:
    rows, columns = _grid(height, width)
    pitch = rng.uniform(6, 7.5)
    row, column = rng.uniform(0, pitch, 2)
    rows = rows + row
    shift = np.floor(rows / pitch) % 2 * pitch / 2
    radius = np.hypot(rows % pitch - pitch / 2, (columns + column + shift) % pitch - pitch / 2)
    return np.clip(0.39 * pitch - radius + 0.5, 0, 1)


def _stripes(rng: Rng, height: int, width: int) -> np.ndarray:
    """Crisp diagonal bands, falling to the right."""
    rows, columns = _grid(height, width)
    period = rng.uniform(6.5, 8.5)
    return ((columns - rows + rng.uniform(0, period)) % period < period / 2).astype(np.float32)


def _chevrons(rng: Rng, height: int, width: int) -> np.ndarray:
    rows, columns = _grid(height, width)
    period = rng.uniform(6, 8)
    zigzag = np.abs((columns + rng.uniform(0, 10)) % 10 - 5)
    return ((rows + zigzag + rng.uniform(0, period)) % period < period / 2).astype(np.float32)


def _columns(rng: Rng, height: int, width: int) -> np.ndarray:
    """Crisp upright bands."""
    _, columns = _grid(height, width)
    period = rng.uniform(5, 7)
    return np.broadcast_to((columns + rng.uniform(0, period)) % period < period / 2, (height, width)).astype(np.float32)


TEXTURES: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    'sky': _clouds,
    'mountain': lambda rng, height, width: _streaks(rng, height, width, 45),
    'building': _windows,
    'tree': _leaves,
    'grass': lambda rng, height, width: _streaks(rng, height, width, 90),
    'road': _gravel,
    'water': _waves,
    'person': _checks,
    'car': _columns,
    'dog': _spots,
    'boat': _stripes,
    'airplane': _chevrons,
}


def textured(rng: Rng, name: str, height: int, width: int) -> np.ndarray:
    """The texture of a class in colours drawn anew: (height, width, 3) float32, RGB; plain for a class without one."""
    dark, light = rng.choice(_DARK), rng.choice(_LIGHT)
    if rng.random() < 0.5:
        dark, light = light, dark
    if name in TEXTURES:
        mix = TEXTURES[name](rng, height, width)[..., None]
    else:
        mix = np.full((height, width, 1), rng.random(), dtype=np.float32)
    return dark + (light - dark) * mix


# ------------------------------------------------------------------------------------------- silhouettes
# Polygons in a unit square, y downwards; an object is their union, stretched to its box.


def _disc(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _shape(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


@dataclass(frozen=True)
class Silhouette:
    """Outline of a kind of object: width over height, height over the image's height, polygons of the unit square."""

    aspect: float
    heights: tuple[float, float]
    polygons: tuple[np.ndarray, ...]


_LEGS = ((0.8, 0.62), (0.8, 1), (0.56, 1), (0.5, 0.72), (0.44, 1), (0.2, 1), (0.2, 0.62))

SILHOUETTES: dict[str, Silhouette] = {
    'person': Silhouette(
        0.45,
        (0.4, 0.65),
        (_disc(0.5, 0.12, 0.24, 0.12), _shape((0.08, 0.26), (0.92, 0.26), (1, 0.62), *_LEGS, (0, 0.62))),
    ),
    'car': Silhouette(
        2.0,
        (0.22, 0.38),
        (
            _shape((0, 0.45), (0.18, 0.4), (0.32, 0), (0.72, 0), (0.86, 0.4), (1, 0.48), (1, 0.82), (0, 0.82)),
            _disc(0.22, 0.8, 0.1, 0.2),
            _disc(0.78, 0.8, 0.1, 0.2),
        ),
    ),
    'dog': Silhouette(
        1.4,
        (0.25, 0.42),
        (
            _shape((0.1, 0.35), (0.74, 0.35), (0.78, 1), (0.66, 1), (0.6, 0.7), (0.26, 0.7), (0.22, 1), (0.1, 1)),
            _shape((0.62, 0.5), (0.64, 0.15), (0.7, 0), (0.78, 0.1), (1, 0.22), (0.98, 0.38), (0.8, 0.45)),
            _shape((0.14, 0.5), (0, 0.12), (0.08, 0.1), (0.2, 0.38)),
        ),
    ),
    'boat': Silhouette(
        1.1,
        (0.35, 0.55),
        (
            _shape((0, 0.7), (1, 0.7), (0.84, 1), (0.16, 1)),
            _shape((0.47, 0.7), (0.47, 0), (0.95, 0.62), (0.53, 0.62), (0.53, 0.7)),
            _shape((0.43, 0.62), (0.43, 0.14), (0.1, 0.62)),
        ),
    ),
    'airplane': Silhouette(
        2.1,
        (0.22, 0.36),
        (
            _shape((0, 0.55), (0.1, 0.42), (0.92, 0.42), (1, 0.56), (0.92, 0.68), (0.1, 0.66)),
            _shape((0.42, 0.45), (0.3, 0), (0.42, 0), (0.66, 0.45)),
            _shape((0.42, 0.62), (0.3, 1), (0.42, 1), (0.66, 0.62)),
            _shape((0.02, 0.5), (0, 0.14), (0.08, 0.14), (0.18, 0.45)),
        ),
    ),
}


def _fill(
    silhouette: Silhouette, box: tuple[float, float, float, float], mirrored: bool, tilt: float, height: int, width: int
) -> np.ndarray:
    """Mask (height, width) of a silhouette in the box (x, y, w, h), turned by ``tilt`` degrees about its middle."""
    x, y, w, h = box
    cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    mask = np.zeros((height, width), dtype=np.uint8)
    for polygon in silhouette.polygons:
        dx, dy = ((polygon - 0.5) * (-w if mirrored else w, h)).T
        points = np.stack([x + w / 2 + cos * dx - sin * dy, y + h / 2 + sin * dx + cos * dy], axis=1)
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask.astype(bool)


# ------------------------------------------------------------------------------------------------ scenes


@dataclass(frozen=True)
class Instance:
    """One object, or one crowd of them, of a scene. ``mask`` (H, W) bool holds its visible pixels."""

    name: str
    mask: np.ndarray
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture and what is on it.

    ``image`` (H, W, 3) uint8 in RGB order; ``labels`` (H, W) uint8 with ADE20K's ids, 0 for other things.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: list[Instance]


class Canvas:
    """Paints from back to front and remembers what is seen where."""

    # Objects painted later must leave at least this share of each earlier one visible.
    LEAST_VISIBLE = 0.5

    def __init__(self, rng: Rng, height: int, width: int):
        self.rng, self.height, self.width = rng, height, width
        self.image = np.zeros((height, width, 3), dtype=np.float32)
        self.labels = np.zeros((height, width), dtype=np.uint8)
        self.owner = np.full((height, width), -1, dtype=np.int16)
        self.objects: list[tuple[str, bool, int]] = []

    def paint(self, name: str, mask: np.ndarray) -> None:
        """Cover ``mask`` (H, W) with the texture of a class in colours drawn anew."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        inside = mask[window]
        self.image[window][inside] = textured(self.rng, name, *inside.shape)[inside]
        self.labels[window][inside] = SCENE_CLASSES[name].ade20k
        self.owner[window][inside] = -1

    def place(self, name: str, mask: np.ndarray, crowd: bool = False) -> bool:
        """Paint an object unless it would be tiny or hide too much of another; say whether it was painted."""
        area = int(mask.sum())
        if area < 24:
            return False
        for index, (_, _, whole) in enumerate(self.objects):
            if ((self.owner == index) & ~mask).sum() < self.LEAST_VISIBLE * whole:
                return False
        self.paint(name, mask)
        self.owner[mask] = len(self.objects)
        self.objects.append((name, crowd, area))
        return True

    def scene(self) -> Scene:
        light = self.rng.uniform(0.9, 1.05) * self.image + self.rng.normal(0, 5, self.image.shape)
        return Scene(
            image=np.clip(light, 0, 255).astype(np.uint8),
            labels=self.labels,
            instances=[
                Instance(name, self.owner == index, crowd) for index, (name, crowd, _) in enumerate(self.objects)
            ],
        )


def _ridge(rng: Rng, width: int, base: float, amplitude: float) -> np.ndarray:
    """A wavy skyline: row (width,) of the upper edge, in pixels."""
    knots = base - amplitude * rng.random((1, int(rng.integers(3, 6))), dtype=np.float32)
    return cv2.resize(knots, (width, 1), interpolation=cv2.INTER_CUBIC)[0]


def _paint_background(canvas: Canvas) -> int:
    """Sky, mountains, houses, trees and grounds. Returns the row of the horizon."""
    rng, height, width = canvas.rng, canvas.height, canvas.width
    rows, columns = np.mgrid[:height, :width]
    horizon = int(height * rng.uniform(0.2, 0.7))
    canvas.paint('sky', np.ones((height, width), dtype=bool))
    if rng.random() < 0.6:
        canvas.paint('mountain', rows >= _ridge(rng, width, horizon - 0.05 * height, 0.4 * height))
    grounds = rng.permutation(['road', 'grass', 'water'])[: int(rng.integers(1, 4))]
    canvas.paint(grounds[0], rows >= horizon)
    for name in grounds[1:]:
        # A straight edge through the ground, upright or level or anything between.
        angle = rng.uniform(-0.6 * np.pi, 0.6 * np.pi)
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(horizon, height)
        side = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) > 0
        canvas.paint(name, side & (rows >= horizon))
    for _ in range(int(rng.integers(0, 4))):
        w, h = rng.uniform(0.2, 0.5) * width, rng.uniform(0.25, 0.6) * height
        x, foot = rng.uniform(-0.1, 0.9) * width, horizon + rng.uniform(0, 0.15) * height
        canvas.paint('building', (abs(columns - x - w / 2) < w / 2) & (rows < foot) & (rows >= foot - h))
    for _ in range(int(rng.integers(0, 4))):
        r = rng.uniform(0.12, 0.24) * height
        x, foot = rng.uniform(0, 1) * width, horizon + rng.uniform(0, 0.2) * height
        stem = (abs(columns - x) < 0.2 * r) & (rows < foot) & (rows > foot - r)
        crown = np.hypot((columns - x) / 1.1, rows - foot + 1.6 * r) < r
        canvas.paint('tree', stem | crown)
    return horizon


def _crowd(rng: Rng, height: int, width: int, foot: float) -> np.ndarray:
    """Mask of four to seven people standing close together."""
    mask = np.zeros((height, width), dtype=bool)
    h = rng.uniform(0.28, 0.4) * height
    w = SILHOUETTES['person'].aspect * h
    x = rng.uniform(-0.1, 0.6) * width
    for index in range(int(rng.integers(4, 8))):
        box = (x + 0.8 * w * index, foot - h * rng.uniform(0.95, 1.05), w, h)
        mask |= _fill(SILHOUETTES['person'], box, False, 0, height, width)
    return mask


def render_scene(rng: Rng, height: int, width: int) -> Scene:
    """Draw one scene.

    Args:
        rng: the only source of chance.
        height, width: size of the picture in pixels. The textures keep their grain of a few pixels at every size.

    Raises:
        ValueError: a side below :data:`SMALLEST_SIDE`.
    """
    check_size(height, width)
    canvas = Canvas(rng, height, width)
    horizon = _paint_background(canvas)
    if rng.random() < 0.5:  # something that ADE20K has no name for
        disc = np.zeros((height, width), dtype=np.uint8)
        middle, radius = (int(rng.integers(width)), int(rng.integers(height))), rng.uniform(0.06, 0.14) * height
        canvas.paint('other', cv2.circle(disc, middle, round(radius), 1, cv2.FILLED).astype(bool))
    feet = np.sort(rng.uniform(horizon + 0.1 * height, 1.05 * height, int(rng.integers(2, 6))))
    if rng.random() < 0.25:
        canvas.place('person', _crowd(rng, height, width, feet[0]), crowd=True)
    for foot in feet:  # far things first, near things in front of them
        name = str(rng.choice(list(SILHOUETTES)))
        bottom = rng.uniform(0.2, 0.6) * height if name == 'airplane' else foot
        canvas.place(name, _object(rng, name, height, width, bottom))
    return canvas.scene()


def render_object(rng: Rng, name: str, height: int, width: int) -> Scene:
    """Draw one large object of the class ``name`` before an empty landscape.

    Raises:
        ValueError: a side below :data:`SMALLEST_SIDE`.
    """
    check_size(height, width)
    canvas = Canvas(rng, height, width)
    _paint_background(canvas)
    silhouette = SILHOUETTES[name]
    h = rng.uniform(0.55, 0.85) * min(height, width / silhouette.aspect)
    w = silhouette.aspect * h
    box = (rng.uniform(0, width - w), rng.uniform(0, height - h), w, h)
    canvas.place(name, _fill(silhouette, box, bool(rng.random() < 0.5), rng.uniform(-8, 8), height, width))
    return canvas.scene()


def _object(rng: Rng, name: str, height: int, width: int, foot: float) -> np.ndarray:
    silhouette = SILHOUETTES[name]
    h = rng.uniform(*silhouette.heights) * min(height, 1.5 * width / silhouette.aspect)
    w = silhouette.aspect * h * rng.uniform(0.85, 1.15)
    box = (rng.uniform(-0.25 * w, width - 0.75 * w), foot - h, w, h)
    return _fill(silhouette, box, bool(rng.random() < 0.5), rng.uniform(-8, 8), height, width)


def check_size(height: int, width: int) -> None:
    if min(height, width) < SMALLEST_SIDE:
        raise UserValueError(f'a scene needs sides of at least {SMALLEST_SIDE} pixels, got {height} x {width}')
