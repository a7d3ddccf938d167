"""Large images from top to bottom: some rows at a time, without the rest in memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmvim.errors import UserModuleNotFoundError, UserValueError
from mmvim.machine import free_memory

from .images import count_pixels, open_array, read_image, to_bgr


class Rows(Protocol):
    """An image that is read by rows.

    Attributes:
        height: in pixels.
        width: in pixels.
        extra_tags: what a TIFF says of the place on earth that it shows, as ``tifffile`` writes it.
    """

    height: int
    width: int
    extra_tags: tuple

    def read(self, top: int, bottom: int) -> np.ndarray:
        """The rows ``top <= y < bottom``: (rows, W, 3) uint8, BGR."""


@contextmanager
def open_rows(path: str | Path) -> Iterator[Rows]:
    """Open an image for reading by rows: TIFF and ``.npy`` in parts, other formats whole.

    Raises:
        ValueError: if it is no image, is cut off, or does not fit.
        ModuleNotFoundError: if it is a TIFF and tifffile is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == '.npy':
        yield ArrayRows(open_array(path), str(path))
    elif suffix in ('.tif', '.tiff'):
        with _open_tiff(path) as file:
            yield TiffRows(file, str(path)) if _can_decode(file.pages.first) else _undecodable(file, path)
    else:
        _check_fits(count_pixels(path) * 3, path, 'save it as a tiled TIFF, which is read in parts')
        yield ArrayRows(read_image(path)[..., ::-1], str(path))


class ArrayRows:
    """An array, in memory or on disk, RGB where it has colours."""

    def __init__(self, array: np.ndarray, source: str, extra_tags: tuple = ()) -> None:
        self.height, self.width = array.shape[:2]
        self.extra_tags = extra_tags
        self._array = array
        self._source = source

    def read(self, top: int, bottom: int) -> np.ndarray:
        return to_bgr(np.asarray(self._array[top:bottom]), self._source)


class TiffRows:
    """The first page of a TIFF, which is the one of full resolution in a pyramid; tiles or strips, read as needed.

    Args:
        file: the open ``tifffile.TiffFile``.
        source: its name, for errors.
    """

    def __init__(self, file: Any, source: str) -> None:
        page = file.pages.first
        planes, depth, self.height, self.width, channels = page.shaped
        if depth != 1:
            raise UserValueError(f'{source} is a volume of {depth} slices: save the slice that is meant')
        self._page = page
        self._source = source
        self._kind = page.photometric.name
        if self._kind not in ('MINISBLACK', 'MINISWHITE', 'RGB', 'YCBCR', 'PALETTE'):
            raise UserValueError(f'{source} has colours of the kind {self._kind}: save it as RGB')
        self._step, self._across, self._segment_width = self.height, 1, self.width
        if page.is_tiled:
            self._step, self._segment_width = page.tilelength, page.tilewidth
            self._across = math.ceil(self.width / page.tilewidth)
        elif page.rowsperstrip:
            self._step = min(page.rowsperstrip, self.height)
        self._planes = planes
        self._channels = channels
        self._lengthwise = math.ceil(self.height / self._step)
        # A row of segments is kept decoded.
        needed = self._step * self.width * channels * planes * page.dtype.itemsize
        _check_fits(needed, source, 'save it with tiles, or with strips of few rows')
        self._kept: dict[int, np.ndarray] = {}
        self.extra_tags = _place_on_earth(page)

    def read(self, top: int, bottom: int) -> np.ndarray:
        pixels = np.zeros((bottom - top, self.width, self._planes * self._channels), self._page.dtype)
        kept: dict[int, np.ndarray] = {}
        for plane in range(self._planes):
            channels = slice(plane * self._channels, (plane + 1) * self._channels)
            for row in range(top // self._step, math.ceil(bottom / self._step)):
                first = row * self._step
                for column in range(self._across):
                    index = (plane * self._lengthwise + row) * self._across + column
                    segment = self._kept[index] if index in self._kept else self._decode(index)
                    if segment is None:  # a sparse file
                        continue
                    if first + len(segment) > bottom:
                        kept[index] = segment
                    left = column * self._segment_width
                    part = segment[max(top - first, 0) : bottom - first, : self.width - left]
                    start = max(first - top, 0)
                    pixels[start : start + len(part), left : left + part.shape[1], channels] = part
        self._kept = kept
        return self._to_bgr(pixels)

    def _decode(self, index: int) -> np.ndarray | None:
        page = self._page
        handle = page.parent.filehandle
        try:
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            if not length:
                return None
            handle.seek(offset)
            data = handle.read(length)
            if len(data) < length:
                raise UserValueError('it ends before its last pixel')
            segment, *_ = page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:  # noqa: BLE001  the decoders have no common error
            reason = str(error).strip().partition('\n')[0] or type(error).__name__
            raise UserValueError(f'{self._source} cannot be read ({reason})') from error
        return None if segment is None else segment[0]

    def _to_bgr(self, pixels: np.ndarray) -> np.ndarray:
        if self._kind == 'PALETTE':
            colours = (self._page.colormap >> 8).astype(np.uint8)
            return colours[::-1].T[pixels[..., 0]]
        if self._kind == 'MINISWHITE' and pixels.dtype != bool:
            pixels = np.iinfo(pixels.dtype).max - pixels
        elif self._kind == 'MINISWHITE':
            pixels = ~pixels
        return to_bgr(pixels, self._source)


def _place_on_earth(page: Any) -> tuple:
    """Tags of a GeoTIFF: scale, tie points, transformation, and the three of the projection."""
    codes = (33550, 33922, 34264, 34735, 34736, 34737)
    return tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in page.tags if tag.code in codes)


def _can_decode(page: Any) -> bool:
    import tifffile

    return page.compression in tifffile.TIFF.DECOMPRESSORS


def _undecodable(file: Any, path: str | Path) -> ArrayRows:
    """A TIFF of a compression that tifffile leaves to imagecodecs: read whole, by OpenCV."""
    page = file.pages.first
    codec = f'{page.compression.name} is read in parts after pip install imagecodecs'
    _check_fits(page.imagelength * page.imagewidth * 3, path, codec)
    try:
        image = read_image(path)
    except ValueError as error:
        raise UserValueError(f'{error}; {codec}') from error
    return ArrayRows(image[..., ::-1], str(path), _place_on_earth(page))


def _check_fits(needed: int, source: str | Path, advice: str) -> None:
    """See that as many bytes are free.

    Raises:
        ValueError: if they are not, with what to do.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise UserValueError(
            f'{source} takes {needed / 1e9:.1f} GB in memory and {free / 1e9:.1f} GB are free: {advice}'
        )


def _open_tiff(path: str | Path) -> Any:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            'reading a TIFF in parts needs tifffile; in the folder of mmvim: pip install ".[large]"'
        ) from error
    try:
        file = tifffile.TiffFile(path)
        file.pages.first  # noqa: B018  is read here
    except (ValueError, IndexError, struct.error) as error:
        raise UserValueError(f'{path} is no TIFF, or its beginning is damaged ({error})') from error
    return file
