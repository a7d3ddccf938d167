"""A large image to the objects in it: a JSON file as COCO has them, and a small picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.infer import BaseInferencer
from mmengine.structures import BaseDataElement, InstanceData

from mmvim.files import replacing

from .boxes import Found, found_in, merge, to_coco
from .channels import to_picture
from .grid import Grid, Size, default_stride
from .inferencer import draw
from .large import SMALL
from .outputs import thinned
from .reading import PLAIN, Reading
from .rows import Rows, open_rows
from .write import write_image

#: Objects that are drawn, the surest ones: more are a picture of lines, and take minutes.
DRAWN = 500


def detect_large(
    inferencer: BaseInferencer,
    source: Path,
    out: Path,
    window: Size | None = None,
    stride: Size | None = None,
    batch: int = 4,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    *,
    score: float = 0.3,
    reading: Reading = PLAIN,
    note: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Find the objects of an image of any size, window by window.

    Each window goes through the test pipeline of the config, which may resize it. What several windows have found of
    one object becomes one (:func:`.boxes.merge`). In memory are as many rows of the image as a window is high, and
    the objects.

    Args:
        inferencer: of :func:`.inferencer.build_inferencer`, for a detector of mmdet or mmrotate.
        source: the image; see :func:`.rows.open_rows`.
        out: folder and beginning of the names of the outputs.
        window: height and width of what the model sees at a time; by default a square that the test pipeline leaves as
            large as it is.
        stride: steps of the window; by default two thirds of it. Objects larger than what windows have in common may
            stay in parts.
        batch: windows at a time.
        begin: is told the number of windows.
        advance: is told each number of windows that are done.
        score: confidence from which on an object counts.
        reading: bands, scale, level and microns per pixel.
        note: is told what is to be said of the image.

    Returns:
        ``.json``, in pixels of the image as it was read, and ``.png``. Each appears when it is complete.

    Raises:
        ValueError, ModuleNotFoundError: as ``open_rows``, :meth:`.grid.Grid.over` and :func:`.boxes.merge`.
    """
    window = window or _usual_window(inferencer)
    with open_rows(source, reading, window) as rows:
        grid = Grid.over(rows.height, rows.width, window, stride or default_stride(window))
        begin(len(grid.tops) * len(grid.lefts))
        for text in rows.notes:
            note(text)
        small: list[np.ndarray] = []
        step = -(-max(rows.height, rows.width) // SMALL)
        found = merge(list(_in_windows(inferencer, rows, grid, batch, score, step, small, advance)))
    content = to_coco(found, source.name, (grid.height, grid.width), inferencer.model.dataset_meta['classes'])
    path, picture = out.with_name(f'{out.name}.json'), out.with_name(f'{out.name}.png')
    with replacing(path) as draft:
        draft.write_text(json.dumps(content))
    if len(found) > DRAWN:
        note(f'{picture.name} shows the {DRAWN} surest of {len(found)} objects')
    write_image(picture, _drawn(inferencer, np.concatenate(small), found[:DRAWN], step))
    return [path, picture]


def _usual_window(inferencer: BaseInferencer) -> Size:
    """The shorter side to which the test pipeline resizes, or else 512."""
    scales = [step.scale for step in inferencer.pipeline.transforms if getattr(step, 'scale', None)]
    side = min(scales[0]) if scales and not isinstance(scales[0], int) else 512
    return side, side


def _in_windows(
    inferencer: BaseInferencer,
    rows: Rows,
    grid: Grid,
    batch: int,
    score: float,
    step: int,
    small: list[np.ndarray],
    advance: Callable[[int], None],
) -> Iterator[Found]:
    """What is found in each window; every row is read once, and every ``step``-th pixel is put into ``small``."""
    pixels, shown = rows.read(0, grid.high), rows.mask(0, grid.high)
    for index, top in enumerate(grid.tops):
        bottom = top + grid.high
        if index:
            former = grid.tops[index - 1]
            done, known = top - former, former + grid.high
            pixels = np.concatenate([pixels[done:], rows.read(known, bottom)])
            shown = None if shown is None else np.concatenate([shown[done:], rows.mask(known, bottom)])
        first, last = grid.band(index)
        small.append(thinned(pixels[: last - first], first, step))
        for start in range(0, len(grid.lefts), batch):
            group = grid.lefts[start : start + batch]
            lefts = [left for left in group if shown is None or shown[:, left : left + grid.wide].any()]
            windows = [np.ascontiguousarray(pixels[:, left : left + grid.wide]) for left in lefts]
            if windows:
                seen = inferencer(windows, batch_size=len(windows), return_datasamples=True)['predictions']
                for left, sample in zip(lefts, seen, strict=True):
                    yield from found_in(sample.pred_instances, left, top, score)
            advance(len(group))


def _drawn(inferencer: BaseInferencer, small: np.ndarray, found: list[Found], step: int) -> np.ndarray:
    """Objects on a picture of every ``step``-th pixel."""
    shape = small.shape[:2]
    lengths = slice(0, 4)  # the angle of a rotated box stays as it is
    boxes = np.array([one.box for one in found]).reshape(len(found), -1 if found else 4)
    boxes[:, lengths] /= step
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor([one.score for one in found], dtype=torch.float32),
        labels=torch.tensor([one.label for one in found], dtype=torch.int64),
    )
    if found and found[0].mask is not None:
        masks = np.zeros((len(found), *shape), dtype=bool)
        for mask, one in zip(masks, found, strict=True):
            patch = one.mask
            thin = patch.pixels[-patch.top % step :: step, -patch.left % step :: step]
            y, x = -(-patch.top // step), -(-patch.left // step)
            mask[y : y + thin.shape[0], x : x + thin.shape[1]] = thin
        instances.masks = torch.from_numpy(masks)
    return draw(inferencer, to_picture(small), BaseDataElement(pred_instances=instances), score=0.0)
