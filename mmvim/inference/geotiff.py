"""Maps by rasterio: what GDAL reads, in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mmvim.errors import UserModuleNotFoundError, UserValueError

from .channels import Channels
from .cog import Earth, quiet, reason
from .memory import check_fits

_CACHE = 64  # MB of decoded blocks that GDAL keeps at least; by itself it takes a twentieth of the memory


def lies_on_earth(path: str | Path) -> bool:
    """Whether a TIFF is read as a map: if it says where it lies, which value stands for nothing, or has 9 to 15 bits.

    Without rasterio, no.
    """
    if not find_spec('rasterio'):
        return False
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        with quiet(), rasterio.open(path) as file:
            placed = file.crs or file.gcps[0] or not file.transform.is_identity
            return bool(placed or file.nodata is not None or _bits(file))
    except RasterioIOError:
        return False  # tifffile says what is wrong


@contextmanager
def open_map(path: str | Path, channels: Channels) -> Iterator[MapRows]:
    """Open a map for reading by rows.

    Raises:
        ValueError: if it cannot be read, or its bands do not fit the model.
        ModuleNotFoundError: if rasterio is not installed.
    """
    try:
        import rasterio
        from rasterio.errors import RasterioIOError
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(f'{path} needs rasterio; in the folder of mmvim: pip install ".[geo]"') from error
    try:
        with quiet():
            file = rasterio.open(path)
    except RasterioIOError as error:
        raise UserValueError(f'{path} cannot be read ({reason(error)})') from error
    cache = _cache(file)
    check_fits(cache * 2**20, path, 'save it with tiles, or with strips of few rows')
    with file, rasterio.Env(GDAL_CACHEMAX=cache, GDAL_NUM_THREADS=1):
        yield MapRows(file, str(path), channels)


class MapRows:
    """A file of GDAL.

    Args:
        file: the open ``rasterio.DatasetReader``.
        source: its name, for errors.
        channels: what the model sees of it.
    """

    def __init__(self, file: Any, source: str, channels: Channels) -> None:
        self.height, self.width = file.height, file.width
        self.notes = [] if file.crs or file.gcps[1] else [f'{source} names no coordinate system, nor do its labels']
        self._file = file
        self._source = source
        self._channels = channels
        self._colours = _colours(file)
        self._bands = [1] if self._colours is not None else channels.choose(_count(file, channels), source)
        nodata = not _shows_everything(file, self._bands)
        self.output = Earth(file.crs, file.transform, *file.gcps, nodata=nodata)
        self._shift = 16 - _bits(file) if _bits(file) and not (channels.scale or channels.raw) else 0

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See :class:`.rows.Rows`."""
        pixels = np.moveaxis(self._ask(self._file.read, top, bottom), 0, -1)
        if self._colours is not None:
            return self._channels(self._colours[pixels[..., 0]], self._source)
        return self._channels.convert(pixels << self._shift if self._shift else pixels, self._source)

    def mask(self, top: int, bottom: int) -> np.ndarray | None:
        """See :class:`.rows.Rows`: where a band has a number that is not the one for nothing."""
        if not self.output.nodata:
            return None
        return self._ask(self._file.read_masks, top, bottom).any(axis=0)

    def effort(self, top: int, bottom: int) -> float:
        """See :class:`.rows.Rows`: what shows nothing is known when it is read."""
        return 1.0

    def _ask(self, read: Any, top: int, bottom: int) -> np.ndarray:
        from rasterio.errors import RasterioIOError
        from rasterio.windows import Window

        try:
            return read(self._bands, window=Window(0, top, self.width, bottom - top))
        except RasterioIOError as error:
            raise UserValueError(f'{self._source} cannot be read, or ends too early ({reason(error)})') from error


def _count(file: Any, channels: Channels) -> int:
    """How many bands there are, without transparency, which is part of the mask, unless bands are named.

    GDAL takes a fourth band of 8 bits for transparency where the program that wrote it did not say what it is, such as
    near infrared.
    """
    return file.count if channels.bands else sum(kind.name != 'alpha' for kind in file.colorinterp)


def _shows_everything(file: Any, bands: list[int]) -> bool:
    """Whether no pixel is masked; a band that the model sees is no mask."""
    from rasterio.enums import ColorInterp, MaskFlags

    seen = any(file.colorinterp[band - 1] == ColorInterp.alpha for band in bands)
    kinds = {MaskFlags.all_valid, MaskFlags.alpha} if seen else {MaskFlags.all_valid}
    return all(kinds.intersection(flags) for flags in file.mask_flag_enums)


def _colours(file: Any) -> np.ndarray | None:
    """The colours of a palette: (256, 3) uint8."""
    if [kind.name for kind in file.colorinterp] != ['palette']:
        return None
    table = np.zeros((256, 3), np.uint8)
    for index, colour in file.colormap(1).items():
        table[index] = colour[:3]
    return table


def _bits(file: Any) -> int:
    """How many bits the numbers in 16 have, where the file says that they have fewer; else 0."""
    return int(file.tags(1, ns='IMAGE_STRUCTURE').get('NBITS', 0)) if file.dtypes[0] == 'uint16' else 0


def _cache(file: Any) -> int:
    """MB: two rows of the blocks of all bands."""
    rows = min(file.block_shapes[0][0], file.height)
    return max(_CACHE, 2 * rows * file.width * file.count * np.dtype(file.dtypes[0]).itemsize // 2**20 + 1)
