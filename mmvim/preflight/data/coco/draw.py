"""Images with their boxes and masks drawn in, as they are in the annotation file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..spread import spread
from .file import CocoFile
from .masks import decode_counts, is_polygon


def draw_images(file: CocoFile, paths: list[str], folder: Path, count: int) -> list[Path]:
    """Draw some images, evenly spread over those with annotations.

    Args:
        file: The annotations.
        paths: The images, in its order.
        folder: For the pictures.
        count: How many.
    """
    drawn = []
    of_image: dict[int, list[int]] = {}
    for position in np.flatnonzero(file.used & (file.image_index >= 0)).tolist():
        of_image.setdefault(int(file.image_index[position]), []).append(position)
    for index in spread(sorted(of_image), count):
        image = cv2.imread(paths[index])
        if image is None:
            continue
        # Small pictures are drawn larger, so that the names can be read.
        scale = max(1, round(600 / max(image.shape[:2])))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        for position in of_image[index]:
            _draw(image, file, position, scale)
        path = folder / Path(str(file.images[index]['file_name']).replace('/', '_')).with_suffix('.png')
        path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
        drawn.append(path)
    return drawn


def _draw(image: np.ndarray, file: CocoFile, position: int, scale: int) -> None:
    category = int(file.category_index[position])
    colour = colour_of(category)
    annotation = file.annotations[position]
    mask = _mask(annotation.get('segmentation'), image.shape[:2], scale)
    if mask is not None:
        image[mask] = (0.5 * image[mask] + 0.5 * np.array(colour)).astype(np.uint8)
    box = file.boxes[position]
    if not np.isfinite(box).all():
        return
    x, y, width, height = (round(float(value) * scale) for value in box)
    cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), colour, 2)
    name = str(file.categories[category]['name']) if category >= 0 else '?'
    name += ' (crowd)' if annotation.get('iscrowd') in (1, True) else ''
    (text_width, text_height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    left = max(min(x, image.shape[1] - text_width - 4), 0)
    top = max(y, text_height + 6)
    cv2.rectangle(image, (left, top - text_height - 6), (left + text_width + 4, top), colour, -1)
    cv2.putText(image, name, (left + 2, top - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)


def _mask(segmentation: list | dict | None, shape: tuple[int, ...], scale: int) -> np.ndarray | None:
    """Bool (H, W) of the enlarged picture; None where no mask can be read."""
    if isinstance(segmentation, list):
        parts = [np.array(part, dtype=np.float64).reshape(-1, 2) for part in segmentation if is_polygon(part)]
        mask = np.zeros(shape[:2], dtype=np.uint8)
        for part in parts:
            cv2.fillPoly(mask, [np.round(part * scale).astype(np.int32)], 1)
        return mask.astype(bool) if parts else None
    if isinstance(segmentation, dict):
        counts = segmentation['counts']
        runs = decode_counts(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
        height, width = segmentation['size']
        flat = np.repeat(np.arange(len(runs)) % 2, runs)
        mask = flat.reshape(width, height).T
        large = np.repeat(np.repeat(mask, scale, axis=0), scale, axis=1).astype(bool)
        return large if large.shape == shape[:2] else None
    return None


def colour_of(category: int) -> tuple[int, int, int]:
    """A bright colour, BGR, that differs from those of the neighbours."""
    hue = np.uint8([[[(category * 67) % 180, 200, 255]]])
    return tuple(int(value) for value in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
