"""Scenes in which things move: frames of short videos with their label maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .categories import SCENE_CLASSES
from .scenes import render_scene

#: Frames of a video; mVC over 16 of them needs more than 16.
VIDEO_FRAMES = 20
#: What VSPW calls what is drawn, by the numbers in its label maps.
VSPW_NUMBERS = {
    'grass': 16, 'road': 19, 'building': 22, 'sky': 29, 'mountain': 30, 'water': 40, 'car': 49, 'boat': 55,
    'airplane': 57, 'person': 61, 'dog': 63, 'tree': 67,
}  # fmt: skip
_FASTEST = 3  # pixels a frame


def moving_scene(
    rng: np.random.Generator, height: int, width: int, frames: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A landscape along which a camera turns, and things that pass in front of it.

    Args:
        rng: Decides all of it.
        height, width: Of the frames, in pixels.
        frames: How many there are.

    Yields:
        Frames (H, W, 3) uint8, RGB, and label maps (H, W) uint8 with the numbers of ADE20K.
    """
    landscape = render_scene(rng, height, width + frames)
    things = render_scene(rng, height, width)
    speeds = [rng.integers(-_FASTEST, _FASTEST + 1, 2) for _ in things.instances]
    for frame in range(frames):
        image = landscape.image[:, frame : frame + width].copy()
        labels = landscape.labels[:, frame : frame + width].copy()
        for thing, speed in zip(things.instances, speeds, strict=True):
            rows, columns = np.nonzero(thing.mask)
            # Forth and back along the frame, hardly up and down: whatever stands on the ground stays near it.
            moved = np.array([[0], [speed[1]]]) * frame + np.array([[round(np.sin(frame / 3) * speed[0] / 2)], [0]])
            there = np.stack([rows, columns]) + moved
            inside = ((there >= 0) & (there < [[height], [width]])).all(0)
            image[tuple(there[:, inside])] = things.image[rows[inside], columns[inside]]
            labels[tuple(there[:, inside])] = SCENE_CLASSES[thing.name].ade20k
        yield image, labels
