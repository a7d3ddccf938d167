"""Draws landscapes as seen from above: fields, water, roads, roofs and crowns, with cars, boats and airplanes.

Classes have the textures of :mod:`.scenes`; bare soil has that of the mountains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .categories import SCENE_CLASSES
from .oriented import BOX, KINDS, filled, turned
from .scenes import Canvas, Rng, Scene, check_size

#: Shapes of houses in a unit square, x along the road: a block, and one with a wing.
_HOUSES = (BOX, ((0, 0), (1, 0), (1, 1), (0.6, 1), (0.6, 0.55), (0, 0.55)))
_FIRST_HALF = ((0, 0), (1, 0), (1, 0.5), (0, 0.5))

# Least sizes in pixels, with which things keep their shape in the smallest pictures.
_ROAD, _CROWN = 14, 3
_LEAST_LENGTH = {'small-vehicle': 9, 'ship': 14, 'plane': 16}


@dataclass(frozen=True)
class _Road:
    """A straight road: a point of its middle line (x, y), its direction in radians, and its width in pixels."""

    point: np.ndarray
    angle: float
    breadth: float

    def beside(self, along: float, across: float) -> np.ndarray:
        """The place (x, y) so many pixels further along the road and to the right of its middle."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.point + (along * cos - across * sin, along * sin + across * cos)

    def mask(self, height: int, width: int) -> np.ndarray:
        _, across = _axes(self.point, self.angle, height, width)
        return abs(across) < self.breadth / 2


def render_from_above(rng: Rng, height: int, width: int) -> Scene:
    """Draw one landscape from above.

    Args:
        rng: The only source of chance.
        height, width: Size of the picture in pixels.

    Returns:
        The picture and what is on it; cars, boats and airplanes are its instances.

    Raises:
        ValueError: A side below :data:`.scenes.SMALLEST_SIDE`.
    """
    check_size(height, width)
    canvas = Canvas(rng, height, width)
    _paint_grounds(canvas)
    if apron := rng.random() < 0.45:
        _paint_apron(canvas)
    roads = _paint_roads(canvas)
    for road in roads:
        _paint_houses(canvas, road)
    _paint_crowns(canvas)
    if rng.random() < 0.6:  # something that ADE20K has no name for
        _paint_tank(canvas)
    if apron:
        _place_anywhere(canvas, 'plane', 'road', 12)
    _place_anywhere(canvas, 'ship', 'water', 8)
    for road in roads:
        _place_cars(canvas, road)
    return canvas.scene()


def _axes(point: np.ndarray, angle: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel (H, W) lies along a direction from a point, and to the right of it."""
    rows, columns = np.mgrid[:height, :width] - point[::-1, None, None]
    cos, sin = np.cos(angle), np.sin(angle)
    return columns * cos + rows * sin, rows * cos - columns * sin


def _place(canvas: Canvas, low: float = 0, high: float = 1) -> np.ndarray:
    return canvas.rng.uniform(low, high, 2) * (canvas.width, canvas.height)


def _side(canvas: Canvas) -> int:
    return min(canvas.height, canvas.width)


def _lies_on(canvas: Canvas, mask: np.ndarray, *names: str) -> bool:
    """Whether a mask is within the picture and covers nothing but these classes."""
    return mask.any() and np.isin(canvas.labels[mask], [SCENE_CLASSES[name].ade20k for name in names]).all()


def _paint_grounds(canvas: Canvas) -> None:
    """Fields with straight edges, some of bare soil, and often a river or a shore."""
    rng, shape = canvas.rng, (canvas.height, canvas.width)
    canvas.paint('grass', np.ones(shape, dtype=bool))
    for _ in range(int(rng.integers(1, 4))):
        _, across = _axes(_place(canvas, 0.2, 0.8), rng.uniform(0, 2 * np.pi), *shape)
        canvas.paint('mountain' if rng.random() < 0.4 else 'grass', across > 0)
    if rng.random() < 0.6:
        along, across = _axes(_place(canvas, 0.15, 0.85), rng.uniform(0, 2 * np.pi), *shape)
        across = across + 0.05 * _side(canvas) * np.sin(5 * along / _side(canvas) + rng.uniform(0, 2 * np.pi))
        river = rng.random() < 0.5
        canvas.paint('water', abs(across) < 0.16 * _side(canvas) if river else across > 0.1 * _side(canvas))


def _paint_apron(canvas: Canvas) -> None:
    """A paved square for airplanes."""
    box = turned(BOX, 0.65 * _side(canvas), 0.75, _place(canvas, 0.3, 0.7), canvas.rng.uniform(0, 2 * np.pi))
    canvas.paint('road', filled(box, canvas.height, canvas.width))


def _paint_roads(canvas: Canvas) -> list[_Road]:
    """One road, or two that cross at about a right angle."""
    rng, angle, roads = canvas.rng, canvas.rng.uniform(0, np.pi), []
    for _ in range(int(rng.integers(1, 3))):
        breadth = max(rng.uniform(0.11, 0.16) * _side(canvas), _ROAD)
        roads.append(_Road(_place(canvas, 0.15, 0.85), angle, breadth))
        canvas.paint('road', roads[-1].mask(canvas.height, canvas.width))
        angle += rng.uniform(0.4, 0.6) * np.pi
    return roads


def _paint_houses(canvas: Canvas, road: _Road) -> None:
    """Roofs along both sides of a road, each of two halves that meet at the ridge."""
    rng, reach = canvas.rng, np.hypot(canvas.height, canvas.width)
    for side in (-1, 1):
        along = -reach + rng.uniform(0, 0.2) * _side(canvas)
        while along < reach:
            length, slim = rng.uniform(0.16, 0.3) * _side(canvas), rng.uniform(0.6, 0.9)
            middle = road.beside(along + length / 2, side * (road.breadth / 2 + 3 + length * slim / 2))
            along += length * rng.uniform(1.15, 1.8)
            outline = _HOUSES[int(rng.integers(len(_HOUSES)))]
            roof, half = (
                filled(turned(points, length, slim, middle, road.angle), canvas.height, canvas.width)
                for points in (outline, _FIRST_HALF)
            )
            if rng.random() < 0.6 and _lies_on(canvas, roof, 'grass', 'mountain'):
                canvas.paint('building', roof)
                canvas.paint('building', roof & half)


def _paint_crowns(canvas: Canvas) -> None:
    """Trees, alone and in groups, each with its middle on grass or in the crown of another."""
    rng = canvas.rng
    for _ in range(int(rng.integers(2, 6))):
        group = _place(canvas)
        for _ in range(int(rng.integers(1, 5))):
            radius = max(rng.uniform(0.04, 0.08) * _side(canvas), _CROWN)
            x, y = middle = group + rng.normal(0, 0.08, 2) * _side(canvas)
            inside = 0 <= x < canvas.width and 0 <= y < canvas.height
            if inside and canvas.labels[int(y), int(x)] in (SCENE_CLASSES[name].ade20k for name in ('grass', 'tree')):
                along, across = _axes(middle, 0, canvas.height, canvas.width)
                canvas.paint('tree', np.hypot(along, across) < radius)


def _paint_tank(canvas: Canvas) -> None:
    """Something round without a name, where it hides nothing but ground."""
    tank = KINDS['storage-tank']
    for _ in range(5):
        length = max(canvas.rng.uniform(*tank.length) * _side(canvas), 2 * _CROWN)
        mask = filled(turned(tank.outline, length, tank.slim, _place(canvas), 0), canvas.height, canvas.width)
        if _lies_on(canvas, mask, 'grass', 'mountain'):
            canvas.paint('other', mask)
            return


def _place_thing(canvas: Canvas, kind: str, ground: str, middle: np.ndarray, angle: float) -> None:
    """One object of DOTA's kinds, where nothing but its ground is below it."""
    thing = KINDS[kind]
    length = max(canvas.rng.uniform(*thing.length) * _side(canvas), _LEAST_LENGTH[kind])
    mask = filled(turned(thing.outline, length, thing.slim, middle, angle), canvas.height, canvas.width)
    if _lies_on(canvas, mask, ground):
        canvas.place(thing.texture, mask)


def _place_anywhere(canvas: Canvas, kind: str, ground: str, tries: int) -> None:
    """As many objects of a kind as find their ground free in so many tries."""
    for _ in range(tries):
        _place_thing(canvas, kind, ground, _place(canvas), canvas.rng.uniform(0, 2 * np.pi))


def _place_cars(canvas: Canvas, road: _Road) -> None:
    """Cars in both lanes of a road, on the right of their way."""
    reach = 0.6 * _side(canvas)
    for _ in range(int(canvas.rng.integers(4, 12))):
        lane, along = canvas.rng.choice((-1, 1)), canvas.rng.uniform(-reach, reach)
        middle = road.beside(along, lane * road.breadth / 4)
        _place_thing(canvas, 'small-vehicle', 'road', middle, road.angle + (0 if lane > 0 else np.pi))
