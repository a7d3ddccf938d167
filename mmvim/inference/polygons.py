"""The regions of a label map as GeoJSON, as QuPath reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmvim.errors import UserModuleNotFoundError
from mmvim.files import replacing

from .cog import quiet
from .outputs import LabelMap


def write_polygons(path: Path, tiff: Path, labels: LabelMap, downsample: float) -> None:
    """Write each region of one class as an annotation with its name and colour.

    Regions end between pixels, have holes where others lie in them, and are connected by sides. GDAL reads the label
    map by rows: memory is that of the polygons.

    Args:
        path: of the GeoJSON.
        tiff: the label map, as it was written.
        labels: what it shows.
        downsample: pixels of the slide's finest level, in which coordinates are, for one of the label map.

    Raises:
        ModuleNotFoundError: if rasterio is not installed.
    """
    with replacing(path) as draft, draft.open('w', encoding='utf-8') as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = '\n'
        for geometry, label in _regions(tiff, downsample):
            if label != labels.nothing:
                file.write(separator + json.dumps(_annotation(geometry, labels, label)))
                separator = ',\n'
        file.write('\n]}\n')


def _annotation(geometry: Any, labels: LabelMap, label: int) -> dict[str, Any]:
    classification = {'name': labels.classes[label], 'color': [int(part) for part in labels.palette[label]]}
    properties = {'objectType': 'annotation', 'classification': classification}
    return {'type': 'Feature', 'geometry': geometry, 'properties': properties}


def _regions(tiff: Path, downsample: float) -> Iterator[tuple[Any, int]]:
    """GeoJSON geometries and labels."""
    try:
        import rasterio
        from rasterio.features import shapes
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            f'polygons of {tiff} need rasterio; in the folder of mmvim: pip install ".[slides]"'
        ) from error
    with quiet():
        file = rasterio.open(tiff)
    with file:
        for polygon, label in shapes(rasterio.band(file, 1), connectivity=4):
            rings = [[(x * downsample, y * downsample) for x, y in ring] for ring in polygon['coordinates']]
            yield {'type': 'Polygon', 'coordinates': rings}, int(label)
