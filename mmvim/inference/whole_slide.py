"""Whole slides by openslide: a level or a resolution of them by rows, without the glass around the tissue."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmvim.errors import UserModuleNotFoundError, UserValueError

from .ome_tiff import Glass
from .reading import Reading
from .tissue import WHITE, find_tissue

BLOCK = 256  # rows and columns that are read, and resized, at a time
_THUMBNAIL = 2048  # pixels of its longer side


@contextmanager
def open_slide(path: str | Path, reading: Reading, window: tuple[int, int]) -> Iterator[SlideRows]:
    """Open a slide for reading by rows.

    Args:
        path: of a file that openslide knows.
        reading: with its level or its microns per pixel; level 0 without either.
        window: height and width of the windows that look at it.

    Raises:
        ValueError: if it is no slide or is damaged; if it has no such level, or does not say its resolution.
        ModuleNotFoundError: if openslide is not installed.
    """
    try:
        import openslide
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            f'{path} needs openslide; in the folder of mmvim: pip install ".[slides]"'
        ) from error
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise UserValueError(f'{path} cannot be read as a slide ({error})') from error
    with slide:
        yield SlideRows(slide, str(path), reading, window)


class SlideRows:
    """A slide at one of its levels, or made smaller from the next finer one.

    It is read in blocks that always begin at the same places, so that a pixel is the same whatever rows are asked for.

    Args:
        slide: the open ``openslide.OpenSlide``.
        source: its name, for errors.
        reading: level or microns per pixel, channels, and whether the background counts.
        window: height and width of the windows that look at it.
    """

    def __init__(self, slide: Any, source: str, reading: Reading, window: tuple[int, int]) -> None:
        self._slide = slide
        self._source = source
        self._channels = reading.channels
        self._level, self._factor = _choose(slide, source, reading)
        wide, high = slide.level_dimensions[self._level]
        self.height, self.width = max(round(high / self._factor), 1), max(round(wide / self._factor), 1)
        downsample = slide.level_downsamples[self._level] * self._factor
        finest = _mpp(slide)
        self.output = Glass(downsample, finest and finest * downsample)
        self.notes = [f'{source}: {self.width} x {self.height} pixels, {self.output.describe()}']
        self._tissue, self._glass = (None, WHITE) if reading.background else find_tissue(self._thumbnail())
        self._wanted = self._find_wanted(window)
        if self._tissue is not None:
            self.notes.append(f'{source}: {1 - self._tissue.mean():.0%} is background, which is left out')
        self._kept: dict[int, np.ndarray] = {}

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See :class:`.rows.Rows`; what is far from the tissue has the colour of the glass."""
        strips = range(top // BLOCK, math.ceil(bottom / BLOCK))
        self._kept = {strip: self._kept[strip] if strip in self._kept else self._decode(strip) for strip in strips}
        pixels = np.concatenate([self._kept[strip] for strip in strips])
        start = strips[0] * BLOCK
        return self._channels(pixels[top - start : bottom - start], self._source)

    def mask(self, top: int, bottom: int) -> np.ndarray | None:
        """See :class:`.rows.Rows`: the tissue, as the thumbnail shows it."""
        if self._tissue is None:
            return None
        wide = self._tissue.shape[1]
        return self._tissue_of(top, bottom)[:, np.arange(self.width) * wide // self.width]

    def effort(self, top: int, bottom: int) -> float:
        """See :class:`.rows.Rows`: the share of columns with tissue."""
        return 1.0 if self._tissue is None else float(self._tissue_of(top, bottom).any(axis=0).mean())

    def _tissue_of(self, top: int, bottom: int) -> np.ndarray:
        """The mask of these rows, as narrow as the thumbnail."""
        return self._tissue[np.arange(top, bottom) * len(self._tissue) // self.height]

    def _decode(self, strip: int) -> np.ndarray:
        top, bottom = strip * BLOCK, min((strip + 1) * BLOCK, self.height)
        pixels = np.full((bottom - top, self.width, 3), self._glass, np.uint8)
        for wanted, run in groupby(range(self._wanted.shape[1]), lambda column: self._wanted[strip, column]):
            columns = list(run)
            left, right = columns[0] * BLOCK, min((columns[-1] + 1) * BLOCK, self.width)
            if wanted:
                pixels[:, left:right] = self._region(top, bottom, left, right)
        return pixels

    def _region(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """RGB of a part, in pixels of the output."""
        x, y, x_end, y_end = (round(place * self._factor) for place in (left, top, right, bottom))
        downsample = self._slide.level_downsamples[self._level]
        corner = round(x * downsample), round(y * downsample)
        colours = self._pixels(*corner, self._level, max(x_end - x, 1), max(y_end - y, 1))
        if self._factor != 1:
            colours = cv2.resize(colours, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return colours

    def _pixels(self, x: int, y: int, level: int, wide: int, high: int) -> np.ndarray:
        """RGB of a part of a level, from a corner in pixels of level 0; white where nothing was scanned."""
        import openslide

        try:
            region = self._slide.read_region((x, y), level, (wide, high))
        except openslide.OpenSlideError as error:
            raise UserValueError(f'{self._source} cannot be read, or ends too early ({error})') from error
        pixels = np.asarray(region)
        if pixels[..., 3].min() == 255:
            return pixels[..., :3]
        share = pixels[..., 3:] / np.float32(255)
        return np.rint(pixels[..., :3] * share + 255 * (1 - share)).astype(np.uint8)

    def _thumbnail(self) -> np.ndarray:
        """RGB of the whole; by strips, as a slide may have a single level."""
        sizes = self._slide.level_dimensions
        level = max(number for number, size in enumerate(sizes) if number == 0 or max(size) >= _THUMBNAIL)
        wide, high = sizes[level]
        factor = math.ceil(max(wide, high) / _THUMBNAIL)
        strip, downsample = BLOCK // factor * factor or factor, self._slide.level_downsamples[level]
        parts = []
        for top in range(0, high, strip):
            rows = min(strip, high - top)
            pixels = self._pixels(0, round(top * downsample), level, wide, rows)
            small = math.ceil(wide / factor), math.ceil(rows / factor)
            parts.append(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA))
        return np.concatenate(parts)

    def _find_wanted(self, window: tuple[int, int]) -> np.ndarray:
        """Which blocks lie in windows that show tissue: (rows of blocks, columns of blocks) bool."""
        down, across = math.ceil(self.height / BLOCK), math.ceil(self.width / BLOCK)
        if self._tissue is None:
            return np.ones((down, across), bool)
        high, wide = self._tissue.shape
        reach = [math.ceil(side * small / large) + 1 for side, small, large in
                 zip(window, (high, wide), (self.height, self.width), strict=True)]  # fmt: skip
        kernel = np.ones([2 * side + 1 for side in reach], np.uint8)
        near = cv2.dilate(self._tissue.astype(np.uint8), kernel)
        wanted = np.zeros((down, across), bool)
        for row in range(down):
            rows = slice(row * BLOCK * high // self.height, (row + 1) * BLOCK * high // self.height + 1)
            for column in range(across):
                left, right = (place * BLOCK * wide // self.width for place in (column, column + 1))
                wanted[row, column] = near[rows, left : right + 1].any()
        return wanted


def _choose(slide: Any, source: str, reading: Reading) -> tuple[int, float]:
    """The level to read, and how many of its pixels become one in each direction."""
    if reading.level is not None:
        if reading.level >= slide.level_count:
            sizes = ', '.join(f'{number}: {w} x {h}' for number, (w, h) in enumerate(slide.level_dimensions))
            raise UserValueError(f'{source} has no level {reading.level}; it has {sizes}')
        return reading.level, 1.0
    if reading.mpp is None:
        return 0, 1.0
    finest = _mpp(slide)
    if finest is None:
        raise UserValueError(f'{source} does not say how many microns a pixel is: take --level instead of --mpp')
    wanted = reading.mpp / finest
    if wanted < 0.99:
        raise UserValueError(
            f'{source} has {finest:.4g} microns per pixel at its finest: take --mpp {finest:.4g} or more'
        )
    if wanted > min(slide.dimensions):
        raise UserValueError(
            f'{source} is less than one pixel at {reading.mpp:.4g} microns per pixel: take a smaller --mpp'
        )
    level = slide.get_best_level_for_downsample(wanted * 1.01)
    factor = wanted / slide.level_downsamples[level]
    return level, 1.0 if abs(factor - 1) < 0.01 else factor


def _mpp(slide: Any) -> float | None:
    """Microns per pixel of level 0."""
    try:
        sides = [float(slide.properties[f'openslide.mpp-{axis}']) for axis in 'xy']
    except (KeyError, ValueError):
        return None
    return sum(sides) / 2 or None
