"""Label maps at the place on earth of the image: Cloud Optimized GeoTIFF, by rasterio."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmvim.errors import UserError, UserOSError
from mmvim.files import replacing

from .labels import regroup
from .outputs import LabelMap

TILE = 512


@dataclass(frozen=True)
class Earth:
    """Label maps as Cloud Optimized GeoTIFF: tiles, overviews, directories first.

    Attributes:
        crs: the system of coordinates, or None.
        transform: from pixels to it; may be rotated.
        gcps: points on the ground, where there is no transform.
        gcps_crs: their system of coordinates.
        nodata: whether some pixels show nothing.
    """

    crs: Any
    transform: Any
    gcps: Any
    gcps_crs: Any
    nodata: bool

    def name(self, out: Path) -> Path:
        """See :class:`.outputs.Output`."""
        return out.with_name(f'{out.name}_labels.tif')

    def write(self, path: Path, labels: LabelMap) -> list[Path]:
        """See :class:`.outputs.Output`.

        Raises:
            OSError: if the disk is full.
        """
        import rasterio.shutil

        tiled, draft = labels.scratch / 'tiled.tif', labels.scratch / 'draft.tif'
        try:
            with replacing(tiled) as plain, quiet():
                self._write_tiles(plain, labels)
            rasterio.shutil.copy(
                tiled, draft, driver='COG', compress='deflate', blocksize=TILE, overview_resampling='nearest',
                bigtiff='if_safer', num_threads=1,
            )  # fmt: skip
        except UserError:
            raise
        except Exception as error:  # GDAL's own errors have no public class
            raise UserOSError(f'{path} cannot be written: is the disk full? ({reason(error)})') from error
        with replacing(path) as place:
            draft.replace(place)
        return [path]

    def _write_tiles(self, path: Path, labels: LabelMap) -> None:
        import rasterio
        from rasterio.windows import Window

        profile = {'driver': 'GTiff', 'count': 1, 'height': labels.height, 'width': labels.width, 'dtype': labels.dtype}
        tiles = {'tiled': True, 'blockxsize': TILE, 'blockysize': TILE, 'bigtiff': 'if_safer'}
        nodata = labels.nothing if self.nodata else None
        place = {'crs': self.crs, 'transform': self.transform} if not self.gcps else {}
        with rasterio.open(path, 'w', **profile, **tiles, **place, nodata=nodata) as file:
            if self.gcps:
                file.gcps = self.gcps, self.gcps_crs
            if labels.dtype == np.uint8:
                file.write_colormap(1, dict(enumerate(map(tuple, labels.palette))))
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=json.dumps({'classes': list(labels.classes)}))
            for row, chunk in enumerate(regroup(labels.bands(), TILE)):
                file.write(chunk, 1, window=Window(0, row * TILE, labels.width, len(chunk)))


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings of images that lie nowhere."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield


def reason(error: Exception) -> str:
    """What GDAL says, in one line."""
    return ' '.join(str(error.__cause__ or error).split())
