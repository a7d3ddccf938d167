"""A large image to a label map on disk and a small picture of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.infer import BaseInferencer
from mmengine.structures import BaseDataElement, PixelData

from mmvim.errors import UserValueError

from .inferencer import draw
from .labels import write_labels
from .rows import Rows, open_rows
from .slide import Size, count_windows, default_stride, label_bands, label_type, window_of
from .write import write_image

SMALL = 1024  # pixels of the longer side of the picture, at most


def segment_large(
    inferencer: BaseInferencer,
    source: Path,
    out: Path,
    window: Size | None = None,
    stride: Size | None = None,
    batch: int = 4,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Segment an image of any size in its own resolution.

    Args:
        inferencer: of :func:`.inferencer.build_inferencer`, for an ``EncoderDecoder`` of mmseg.
        source: the image; see :func:`.rows.open_rows`.
        out: folder and beginning of the names of the outputs.
        window: height and width of what the model sees at a time; by default what the config tests or trains with.
        stride: steps of the window; by default the config's, or two thirds of ``window``.
        batch: windows at a time.
        begin: is told the number of windows.
        advance: is told each number of windows that are done.

    Returns:
        The label map (``_labels.tif``, or ``.png`` where tifffile is not installed) and the picture. Each appears
        when it is complete.

    Raises:
        ValueError, ModuleNotFoundError: as ``open_rows`` and :func:`.slide.label_bands`.
    """
    model = inferencer.model
    if not hasattr(model, 'encode_decode'):
        raise UserValueError(f'{type(model).__name__} takes no windows: only segmentors of the kind EncoderDecoder do')
    if window is None:
        window, usual = window_of(model)
        stride = stride or usual
    stride = stride or default_stride(window)
    labels = out.with_name(f'{out.name}_labels{".tif" if find_spec("tifffile") else ".png"}')
    picture = out.with_name(f'{out.name}.png')
    with open_rows(source) as rows:
        size = rows.height, rows.width
        begin(count_windows(*size, window, stride))
        sampled = Sampled(rows, -(-max(size) // SMALL))
        bands = sampled.with_labels(label_bands(model, sampled, window, stride, batch, advance))
        meta = model.dataset_meta
        write_labels(labels, bands, size, label_type(model), meta['classes'], meta['palette'], rows.extra_tags)
    found = BaseDataElement(pred_sem_seg=PixelData(data=torch.from_numpy(sampled.label_map.astype(np.int64))[None]))
    write_image(picture, draw(inferencer, sampled.image, found))
    return [labels, picture]


class Sampled:
    """An image that keeps every n-th pixel of what is read of it, once from top to bottom, and of its labels."""

    def __init__(self, rows: Rows, step: int) -> None:
        self.height, self.width, self.extra_tags = rows.height, rows.width, rows.extra_tags
        self._rows = rows
        self._step = step
        self._pixels: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See :class:`.rows.Rows`."""
        pixels = self._rows.read(top, bottom)
        self._pixels.append(self._sample(pixels, top))
        return pixels

    def with_labels(self, bands: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same bands."""
        top = 0
        for band in bands:
            self._labels.append(self._sample(band, top))
            top += len(band)
            yield band

    @property
    def image(self) -> np.ndarray:
        """(h, w, 3) uint8, BGR."""
        return np.concatenate(self._pixels)

    @property
    def label_map(self) -> np.ndarray:
        """(h, w)."""
        return np.concatenate(self._labels)

    def _sample(self, rows: np.ndarray, top: int) -> np.ndarray:
        # A copy, or the view would keep all of it.
        return rows[-top % self._step :: self._step, :: self._step].copy()
