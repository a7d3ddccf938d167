"""Images with their rotated boxes drawn in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .coco.draw import colour_of

if TYPE_CHECKING:
    from .dota import Box


def draw_boxes(boxes: dict[str, list[Box]], folder: Path) -> list[Path]:
    """Draw images with their boxes and the names of their classes.

    Args:
        boxes: Those of each image.
        folder: For the pictures.
    """
    names = sorted({box.name for of_image in boxes.values() for box in of_image})
    drawn = []
    for file, of_image in boxes.items():
        image = cv2.imread(file)
        if image is None:
            continue
        # Small pictures are drawn larger, so that the names can be read.
        scale = max(1, round(600 / max(image.shape[:2])))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        for box in of_image:
            colour, corners = colour_of(names.index(box.name)), np.round(box.corners * scale).astype(np.int32)
            cv2.polylines(image, [corners], True, colour, 2, cv2.LINE_AA)
            x, y = np.clip(corners.min(axis=0), (2, 14), (image.shape[1] - 60, image.shape[0] - 4)).tolist()
            cv2.putText(image, box.name, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
        path = folder / f'{Path(file).stem}.png'
        path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
        drawn.append(path)
    return drawn
