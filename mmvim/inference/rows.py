"""Large images from top to bottom: some rows at a time, without the rest in memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmvim.errors import UserModuleNotFoundError, UserValueError

from .channels import Channels, to_bgr
from .geotiff import lies_on_earth, open_map
from .images import count_pixels, open_array, read_image
from .memory import check_fits
from .outputs import Output, PlainOutput
from .reading import MAPS, PLAIN, SLIDES, TIFFS, Reading
from .whole_slide import open_slide


class Rows(Protocol):
    """An image that is read by rows.

    Attributes:
        height: in pixels.
        width: in pixels.
        notes: what is to be said of it.
        output: how its labels are written.
    """

    height: int
    width: int
    notes: Sequence[str]
    output: Output

    def read(self, top: int, bottom: int) -> np.ndarray:
        """The rows ``top <= y < bottom``: (rows, W, channels), as :class:`.channels.Channels` gives them."""

    def mask(self, top: int, bottom: int) -> np.ndarray | None:
        """Where they show something: (rows, W) bool; None for an image that does everywhere."""

    def effort(self, top: int, bottom: int) -> float:
        """What share of the rows is worth a look, as far as is known before they are read."""


class Filled:
    """What holds for images that show something everywhere and have nothing to be said of them."""

    notes = ()

    def mask(self, top: int, bottom: int) -> None:
        """See :class:`Rows`."""
        return

    def effort(self, top: int, bottom: int) -> float:
        """See :class:`Rows`."""
        return 1.0


@contextmanager
def open_rows(path: str | Path, reading: Reading = PLAIN, window: tuple[int, int] = (0, 0)) -> Iterator[Rows]:
    """Open an image for reading by rows: maps, slides, TIFF and ``.npy`` in parts, other formats whole.

    Args:
        path: of the image.
        reading: what of it is read, and how.
        window: height and width of the windows that look at it: what is farther away from what a slide shows is not
            read.

    Raises:
        ValueError: if it is no image, is cut off, or does not fit; or if ``reading`` asks for what it has not.
        ModuleNotFoundError: if it needs tifffile, rasterio or openslide and that is not installed.
    """
    suffix = Path(path).suffix.lower()
    channels = reading.channels
    if suffix in SLIDES or (suffix in TIFFS and reading.of_a_slide):
        with open_slide(path, reading, window) as rows:
            yield rows
    elif reading.of_a_slide:
        raise UserValueError(f'{path} is no slide, which --level and --mpp are for: leave them out')
    elif suffix in MAPS or (suffix in TIFFS and lies_on_earth(path)):
        with open_map(path, channels) as rows:
            yield rows
    elif suffix == '.npy':
        yield ArrayRows(open_array(path), str(path), channels=channels)
    elif suffix in TIFFS:
        with _open_tiff(path) as file:
            can = _can_decode(file.pages.first)
            yield TiffRows(file, str(path), channels) if can else _undecodable(file, path, channels)
    else:
        check_fits(count_pixels(path) * 3, path, 'save it as a tiled TIFF, which is read in parts')
        yield ArrayRows(read_image(path)[..., ::-1], str(path), channels=channels)


class ArrayRows(Filled):
    """An array, in memory or on disk, RGB where it has colours."""

    def __init__(self, array: np.ndarray, source: str, extra_tags: tuple = (), channels: Channels = to_bgr) -> None:
        self.height, self.width = array.shape[:2]
        self.output = PlainOutput(extra_tags)
        self._array = array
        self._source = source
        self._channels = channels

    def read(self, top: int, bottom: int) -> np.ndarray:
        return self._channels(np.asarray(self._array[top:bottom]), self._source)


class TiffRows(Filled):
    """The first page of a TIFF, which is the one of full resolution in a pyramid; tiles or strips, read as needed.

    Args:
        file: the open ``tifffile.TiffFile``.
        source: its name, for errors.
        channels: what the model sees of it.
    """

    def __init__(self, file: Any, source: str, channels: Channels = to_bgr) -> None:
        page = file.pages.first
        planes, depth, self.height, self.width, samples = page.shaped
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
        self._chosen = channels
        self._channels = samples
        self._lengthwise = math.ceil(self.height / self._step)
        # A row of segments is kept decoded.
        needed = self._step * self.width * samples * planes * page.dtype.itemsize
        check_fits(needed, source, 'save it with tiles, or with strips of few rows')
        self._kept: dict[int, np.ndarray] = {}
        self.output = PlainOutput(_place_on_earth(page))
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        if end > file.filehandle.size:
            raise UserValueError(f'{source} cannot be read (it ends before its last pixel)')

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
        return self._coloured(pixels)

    def _decode(self, index: int) -> np.ndarray | None:
        page = self._page
        handle = page.parent.filehandle
        try:
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            if not length:
                return None
            handle.seek(offset)
            data = handle.read(length)
            segment, *_ = page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:  # noqa: BLE001  the decoders have no common error
            reason = str(error).strip().partition('\n')[0] or type(error).__name__
            raise UserValueError(f'{self._source} cannot be read ({reason})') from error
        return None if segment is None else segment[0]

    def _coloured(self, pixels: np.ndarray) -> np.ndarray:
        if self._kind == 'PALETTE':
            pixels = (self._page.colormap >> 8).astype(np.uint8).T[pixels[..., 0]]
        elif self._kind == 'MINISWHITE':
            pixels = ~pixels if pixels.dtype == bool else np.iinfo(pixels.dtype).max - pixels
        return self._chosen(pixels, self._source)


def _place_on_earth(page: Any) -> tuple:
    """Tags of a GeoTIFF: scale, tie points, transformation, and the three of the projection."""
    codes = (33550, 33922, 34264, 34735, 34736, 34737)
    return tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in page.tags if tag.code in codes)


def _can_decode(page: Any) -> bool:
    import tifffile

    return page.compression in tifffile.TIFF.DECOMPRESSORS


def _undecodable(file: Any, path: str | Path, channels: Channels) -> ArrayRows:
    """A TIFF of a compression that tifffile leaves to imagecodecs: read whole, by OpenCV."""
    page = file.pages.first
    codec = f'{page.compression.name} is read in parts after pip install imagecodecs'
    check_fits(page.imagelength * page.imagewidth * 3, path, codec)
    try:
        image = read_image(path)
    except ValueError as error:
        raise UserValueError(f'{error}; {codec}') from error
    return ArrayRows(image[..., ::-1], str(path), _place_on_earth(page), channels)


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
