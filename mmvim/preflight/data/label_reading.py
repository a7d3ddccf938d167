"""How a pipeline reads images and label maps."""

import tempfile
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Reading:
    """What a pipeline makes of files.

    Attributes:
        table: uint8 (256,), what each value of an 8-bit label map becomes.
        backend: What decodes label maps, ``'pillow'`` or ``'cv2'``.
        turns: Whether images are turned upright by their EXIF orientation.
    """

    table: np.ndarray
    backend: str
    turns: bool


def reading_of(dataset: Any) -> Reading | None:
    """How a data set of label maps reads its files, tried out on a label map that has every value once.

    Args:
        dataset: One of mmseg's, with a pipeline; not one that wraps others.

    Returns:
        None if its pipeline reads no label maps, or none as pictures.
    """
    from mmcv.transforms import LoadAnnotations, LoadImageFromFile

    steps = list(_flat(dataset.pipeline.transforms))
    load = next((step for step in steps if isinstance(step, LoadAnnotations)), None)
    if load is None or not hasattr(load, '_load_seg_map'):
        return None
    load = deepcopy(load)
    load.backend_args = None
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, 'every_value.png'))
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
        results = {
            'seg_map_path': path,
            'label_map': getattr(dataset, 'label_map', None),
            'reduce_zero_label': getattr(dataset, 'reduce_zero_label', False),
            'seg_fields': [],
        }
        table = load(results)['gt_seg_map'].reshape(256)
    image = next((step for step in steps if isinstance(step, LoadImageFromFile)), None)
    turns = getattr(image, 'color_type', 'color') in ('color', 'grayscale')
    backend = 'cv2' if getattr(load, 'imdecode_backend', 'pillow') == 'cv2' else 'pillow'
    return Reading(table, backend, turns)


def _flat(steps: Iterable) -> Iterator:
    """Transforms with those inside of ``TestTimeAug`` and other wrappers."""
    for step in steps:
        yield step
        inner = getattr(step, 'transforms', None) or getattr(step, 'subroutines', None)
        if isinstance(inner, (list, tuple)):
            yield from _flat(inner)
        elif hasattr(inner, 'transforms'):
            yield from _flat([inner])


def reduced(table: np.ndarray, reduces: bool) -> np.ndarray:
    """The table for the other setting of ``reduce_zero_label``, where classes are not renumbered besides."""
    numbers = np.arange(256, dtype=np.uint8)
    if reduces:
        return numbers
    return np.where((numbers == 0) | (numbers == 255), 255, numbers - 1).astype(np.uint8)
