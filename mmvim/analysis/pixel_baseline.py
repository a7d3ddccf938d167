"""What a classifier reaches that sees one pixel at a time: the yardstick for models that see texture and shape."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mmvim.errors import UserRuntimeError

IGNORED = 255


class PixelClassifier:
    """Class frequencies over a grid of colour and position.

    A pixel falls into one cell by its red, green and blue values and its place in the image, and gets the class that
    was most frequent in that cell. Cells that saw few pixels lean on what their colour and their position say each by
    itself. Classes may be weighted by a power of their rarity; :meth:`fit` keeps the power with the best mIoU on what
    it was fitted to, so that the classifier is not beaten merely because accuracy and mIoU want different things.

    Args:
        num_classes: labels are 0 .. num_classes - 1, 255 is left out.
        colour_bins: cells along each of the three colours.
        position_bins: cells along each side of the image.
        prior_weight: pixels' worth of trust in colour and position taken each by itself.
    """

    POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)

    def __init__(self, num_classes: int, colour_bins: int = 16, position_bins: int = 8, prior_weight: float = 200.0):
        self.num_classes = num_classes
        self.colour_bins, self.position_bins = colour_bins, position_bins
        self.prior_weight = prior_weight
        self.table: np.ndarray | None = None

    def _cells(self, image: np.ndarray) -> np.ndarray:
        """Cell index (H, W) of every pixel of an image (H, W, 3) uint8; position varies slowest."""
        height, width, _ = image.shape
        rows = np.arange(height)[:, None] * self.position_bins // height
        columns = np.arange(width)[None, :] * self.position_bins // width
        cells = rows * self.position_bins + columns
        for channel in np.moveaxis(image.astype(np.int64) * self.colour_bins // 256, -1, 0):
            cells = cells * self.colour_bins + channel
        return cells

    def fit(self, samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> PixelClassifier:
        """Count over ``samples`` of (image (H, W, 3) uint8, labels (H, W) integer)."""
        colours = self.colour_bins**3
        counts = np.zeros((self.position_bins**2 * colours, self.num_classes), dtype=np.float32)
        for image, labels in samples:
            known = labels != IGNORED
            flat = self._cells(image)[known] * self.num_classes + labels[known]
            counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        frequency = _normalised(counts.sum(axis=0))
        grid = counts.reshape(-1, colours, self.num_classes)
        by_position, by_colour = (_normalised(grid.sum(axis=axis, keepdims=True) + frequency) for axis in (1, 0))
        prior = _normalised(by_position * by_colour / np.maximum(frequency, 1e-12)).reshape(counts.shape)
        posterior = counts + self.prior_weight * prior
        tables = [(posterior / np.maximum(frequency, 1e-12) ** power).argmax(axis=1) for power in self.POWERS]
        self.table = max(tables, key=lambda table: self._fitted_miou(counts, table))
        return self

    def _fitted_miou(self, counts: np.ndarray, table: np.ndarray) -> float:
        hits = np.bincount(table, counts[np.arange(len(table)), table], minlength=self.num_classes)
        union = np.bincount(table, counts.sum(axis=1), minlength=self.num_classes) + counts.sum(axis=0) - hits
        return float(np.mean(hits[union > 0] / union[union > 0]))

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Labels (H, W) of an image (H, W, 3) uint8."""
        if self.table is None:
            raise UserRuntimeError('PixelClassifier.predict was called before fit')
        return self.table[self._cells(image)]


def _normalised(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-12)
