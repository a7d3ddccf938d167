"""What people look for in a data set of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checker import Statistics
from .file import CocoFile, is_number

STRIDES = (4, 8, 16)


def statistics_of(file: CocoFile, classes: Sequence[str] | None, dataset: Any) -> Statistics:
    """Count images and objects, and say how large they are.

    Args:
        file: Checked.
        classes: Those of the config; all categories of the file by default.
        dataset: Whose pipeline says what size images come to.
    """
    names = [str(category['name']) for category in file.categories]
    kept = file.used & (file.image_index >= 0) & (file.category_index >= 0)
    listed = np.array([classes is None or name in classes for name in names], dtype=bool)
    if listed.size:
        kept &= listed[file.category_index]
    width, height = file.sizes.T
    facts = {'images': str(len(file.images)), 'image sizes': _sizes(width, height)}
    facts['annotations'] = str(len(file.annotations))
    boxes = np.bincount(file.image_index[kept], minlength=len(file.images))
    facts['boxes per image'] = f'{boxes.min()} to {boxes.max()}, median {np.median(boxes):g}, mean {boxes.mean():.1f}'
    facts['images without boxes'] = str(int((boxes == 0).sum()))
    facts['crowds'] = str(sum(entry.get('iscrowd') in (1, True) for entry in file.annotations))
    facts |= _small_objects(file, kept, dataset)
    counts = np.bincount(file.category_index[kept], minlength=len(names))
    per_class = {name: int(count) for name, count, show in zip(names, counts, listed, strict=True) if show}
    return Statistics(facts, per_class, 'instances')


def _sizes(width: np.ndarray, height: np.ndarray) -> str:
    area = width * height
    smallest, largest = int(area.argmin()), int(area.argmax())
    said = f'{width[smallest]:g} x {height[smallest]:g}'
    if area[smallest] == area[largest]:
        return said
    return f'{said} to {width[largest]:g} x {height[largest]:g}, median {np.median(width):g} x {np.median(height):g}'


def _small_objects(file: CocoFile, kept: np.ndarray, dataset: Any) -> dict[str, str]:
    kept = np.flatnonzero(kept & (np.nan_to_num(file.boxes[:, 2:]).min(axis=1, initial=np.inf) > 0))
    if not len(kept):
        return {}
    boxes = file.boxes[kept, 2] * file.boxes[kept, 3]
    areas = [file.annotations[position].get('area') for position in kept]
    area = np.array([value if is_number(value) and value > 0 else np.nan for value in areas], dtype=np.float64)
    side = np.sqrt(np.where(np.isnan(area), boxes, np.minimum(area, boxes)))
    facts = {'smallest objects, root of the area': _quantiles(side, 'pixels of the image')}
    scale = resized_to(dataset)
    if scale is not None:
        side = side * _factors(file.sizes, scale)[file.image_index[kept]]
        facts[f'after resizing to {scale[0]} x {scale[1]}'] = _quantiles(side, 'pixels')
    for stride in STRIDES:
        facts[f'in pixels of stride {stride}'] = _quantiles(
            side / stride, f'pixels; {(side < stride).mean():.1%} below 1'
        )
    return facts


def _quantiles(side: np.ndarray, unit: str) -> str:
    first, low, middle = np.quantile(side, (0.0, 0.01, 0.1))
    return f'{_short(first)}; 1 % below {_short(low)}, 10 % below {_short(middle)} {unit}'


def _short(value: float) -> str:
    return f'{value:.1f}' if value < 10 else f'{value:.0f}'


def resized_to(dataset: Any) -> tuple[int, int] | None:
    """The scale, width and height, of the one ``Resize`` in a data set's pipeline that keeps the proportions."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    scales = [step.scale for step in steps if getattr(step, 'scale', None) and getattr(step, 'keep_ratio', False)]
    return tuple(scales[0]) if len(scales) == 1 and isinstance(scales[0], (tuple, list)) else None


def _factors(sizes: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """How much larger each image becomes: its longer side at most the larger number, its shorter the smaller one."""
    return np.minimum(max(scale) / sizes.max(axis=1), min(scale) / sizes.min(axis=1))
