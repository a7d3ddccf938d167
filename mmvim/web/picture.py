"""Drawing what was seen, by OpenCV: a tenth of a second or less, for it is drawn again at every move of a slider."""

from __future__ import annotations

import cv2
import numpy as np

from mmvim.inference.inferencer import place_of_name

from .seen import Objects, Ranking, Seen, Segments

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_NAMED = 0.02  # of the image: smaller parts have no name on them, only in the legend


def paint(seen: Seen, threshold: float, opacity: float) -> np.ndarray:
    """Draw it over the image.

    Args:
        seen: What a model saw.
        threshold: Confidence from which on boxes and masks are drawn.
        opacity: Of masks and classes, 0 to 1.

    Returns:
        (h, w, 3) uint8, RGB.
    """
    if isinstance(seen, Segments):
        drawn = _segments(seen, opacity)
    elif isinstance(seen, Objects):
        drawn = _objects(seen, threshold, opacity)
    elif isinstance(seen, Ranking):
        drawn = seen.image.copy()
        best = int(seen.scores.argmax())
        _label(drawn, (8, 8), f'{seen.classes[best]} {100 * seen.scores[best]:.0f} %', (40, 40, 40))
    return np.ascontiguousarray(drawn[..., ::-1])


def above(seen: Objects, threshold: float) -> np.ndarray:
    """Indices of the objects that are drawn, the surest last, so that it lies above the others."""
    return np.flatnonzero(seen.scores >= threshold)[::-1]


def _segments(seen: Segments, opacity: float) -> np.ndarray:
    colours = np.asarray(seen.palette, np.uint8)[:, ::-1][seen.labels]
    drawn = cv2.addWeighted(seen.image, 1 - opacity, colours, opacity, 0)
    if opacity:
        for number in np.unique(seen.labels):
            mask = seen.labels == number
            if mask.mean() >= _LEAST_NAMED:
                _label(drawn, place_of_name(mask), seen.classes[number], _bgr(seen, number), centred=True)
    return drawn


def _objects(seen: Objects, threshold: float, opacity: float) -> np.ndarray:
    drawn = seen.image.copy()
    chosen = above(seen, threshold)
    if seen.masks is not None:
        for index in chosen:
            mask = seen.masks[index]
            colour = np.float32(_bgr(seen, seen.labels[index]))
            drawn[mask] = (drawn[mask] * (1 - opacity) + colour * opacity).astype(np.uint8)
    for index in chosen:
        colour = _bgr(seen, seen.labels[index])
        left, top, right, bottom = (int(side) for side in seen.boxes[index].round())
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, 2, cv2.LINE_AA)
        text = f'{seen.classes[seen.labels[index]]} {seen.scores[index]:.2f}'
        _label(drawn, (left, top), text, colour)
    return drawn


def _label(
    drawn: np.ndarray, at: tuple[int, int], text: str, colour: tuple[int, int, int], centred: bool = False
) -> None:
    """A text on a ground of its colour, kept inside of the picture."""
    text = text if text.isascii() else text.encode('ascii', 'replace').decode()  # what OpenCV's fonts have
    (width, height), below = cv2.getTextSize(text, _FONT, 0.5, 1)
    wide, high = width + 8, height + below + 6
    x, y = (int(at[0]) - wide // 2, int(at[1]) - high // 2) if centred else (int(at[0]), int(at[1]))
    x, y = max(min(x, drawn.shape[1] - wide), 0), max(min(y, drawn.shape[0] - high), 0)
    cv2.rectangle(drawn, (x, y), (x + wide, y + high), colour, cv2.FILLED)
    bright = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140
    ink = (20, 20, 20) if bright else (255, 255, 255)
    cv2.putText(drawn, text, (x + 4, y + height + 3), _FONT, 0.5, ink, 1, cv2.LINE_AA)


def _bgr(seen: Seen, number: int) -> tuple[int, int, int]:
    return tuple(int(value) for value in seen.palette[number])[::-1]
