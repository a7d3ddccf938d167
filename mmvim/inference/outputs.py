"""The labels of a large image on their way to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from .labels import Palette, write_labels


@dataclass(frozen=True)
class LabelMap:
    """A finished label map, in bands on disk.

    Attributes:
        height, width: in pixels.
        dtype: uint8 or uint16.
        classes: their names.
        palette: their colours, RGB.
        nothing: the label of pixels that show nothing.
        bands: its (rows, W) from top to bottom; can be called again and again.
        scratch: a folder for what is needed for a while, on the disk of the output.
    """

    height: int
    width: int
    dtype: type
    classes: Sequence[str]
    palette: Palette
    nothing: int
    bands: Callable[[], Iterator[np.ndarray]]
    scratch: Path

    def thinned(self, step: int) -> Iterator[np.ndarray]:
        """The bands of every ``step``-th row and column."""
        top = 0
        for band in self.bands():
            thin = thinned(band, top, step)
            top += len(band)
            if len(thin):
                yield thin


def thinned(rows: np.ndarray, top: int, step: int) -> np.ndarray:
    """Every ``step``-th pixel of an image, of its rows from ``top`` on: a copy, or the view would keep all of it."""
    return rows[-top % step :: step, ::step].copy()


class Output(Protocol):
    """How the labels of a kind of image are written."""

    def name(self, out: Path) -> Path:
        """That of the label map, for the beginning of the names of outputs."""

    def write(self, path: Path, labels: LabelMap) -> list[Path]:
        """Write the label map, and what belongs to it; each file appears when it is complete."""


@dataclass(frozen=True)
class PlainOutput:
    """A tiled TIFF, or a PNG where tifffile is not installed.

    Attributes:
        extra_tags: of the TIFF, as ``tifffile`` writes them.
    """

    extra_tags: tuple = ()

    def name(self, out: Path) -> Path:
        return out.with_name(f'{out.name}_labels{".tif" if find_spec("tifffile") else ".png"}')

    def write(self, path: Path, labels: LabelMap) -> list[Path]:
        size = labels.height, labels.width
        write_labels(path, labels.bands(), size, labels.dtype, labels.classes, labels.palette, self.extra_tags)
        return [path]
