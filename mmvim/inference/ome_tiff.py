"""Label maps of slides: a pyramid as OME-TIFF."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmvim.errors import UserModuleNotFoundError
from mmvim.files import replacing

from .labels import TILE, colour_table, tiles
from .outputs import LabelMap
from .polygons import write_polygons

_SMALLEST = 512  # pixels of the longer side, from which on there are no smaller levels


@dataclass(frozen=True)
class Glass:
    """A label map as pyramidal OME-TIFF, and its regions as polygons.

    Attributes:
        downsample: how many pixels of the finest level are one of the label map.
        mpp: microns per pixel of the label map; None where the slide does not say.
    """

    downsample: float
    mpp: float | None

    def describe(self) -> str:
        """The resolution in words."""
        return f'{self.mpp:.4g} microns per pixel' if self.mpp else f'1/{self.downsample:.4g} of the finest level'

    def name(self, out: Path) -> Path:
        """See :class:`.outputs.Output`."""
        return out.with_name(f'{out.name}_labels.ome.tif')

    def write(self, path: Path, labels: LabelMap) -> list[Path]:
        """See :class:`.outputs.Output`.

        Raises:
            ModuleNotFoundError: if tifffile is not installed.
        """
        with replacing(path) as draft:
            self._write_pyramid(draft, labels)
        polygons = path.with_name(path.name.replace('_labels.ome.tif', '.geojson'))
        write_polygons(polygons, path, labels, self.downsample)
        return [path, polygons]

    def _write_pyramid(self, path: Path, labels: LabelMap) -> None:
        try:
            import tifffile
        except ModuleNotFoundError as error:
            raise UserModuleNotFoundError(
                f'{path} needs tifffile; in the folder of mmvim: pip install ".[slides]"'
            ) from error
        steps = [1]
        while max(labels.height, labels.width) / steps[-1] > _SMALLEST:
            steps.append(steps[-1] * 2)
        big = labels.height * labels.width * np.dtype(labels.dtype).itemsize > 2**31
        with tifffile.TiffWriter(path, bigtiff=big, ome=True) as file:
            for step in steps:
                shape = -(-labels.height // step), -(-labels.width // step)
                first = {'subifds': len(steps) - 1, 'metadata': self._metadata(labels)}
                file.write(
                    tiles(labels.thinned(step), shape),
                    shape=shape,
                    dtype=labels.dtype,
                    tile=(TILE, TILE),
                    compression='zlib',
                    maxworkers=1,  # more would let it collect tiles
                    **colour_table(labels.dtype, labels.palette),
                    **self._resolution(step),
                    **(first if step == 1 else {'subfiletype': 1, 'metadata': None}),
                )

    def _metadata(self, labels: LabelMap) -> dict[str, Any]:
        names = {str(number): name for number, name in enumerate(labels.classes)}
        names[str(labels.nothing)] = 'background'
        found = {'axes': 'YX', 'Name': 'labels', 'MapAnnotation': names}
        if self.mpp:
            found |= {f'PhysicalSize{axis}': self.mpp for axis in 'XY'}
            found |= {f'PhysicalSize{axis}Unit': 'µm' for axis in 'XY'}
        # The same labels give the same file: tifffile's own is another each time.
        return {**found, 'UUID': str(uuid.uuid5(uuid.NAMESPACE_OID, repr((labels.height, labels.width, found))))}

    def _resolution(self, step: int) -> dict[str, Any]:
        if not self.mpp:
            return {}
        return {'resolution': (1e4 / self.mpp / step,) * 2, 'resolutionunit': 'CENTIMETER'}
