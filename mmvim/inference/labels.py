"""Label maps written from top to bottom: a tiled TIFF through tifffile, or a PNG."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmvim.errors import UserValueError
from mmvim.files import replacing

TILE = 256
PNG_LIMIT = 2**31 - 1

Palette = Sequence[Sequence[int]]


def write_labels(
    path: Path,
    bands: Iterator[np.ndarray],
    size: tuple[int, int],
    dtype: type,
    classes: Sequence[str],
    palette: Palette,
    extra_tags: tuple = (),
) -> None:
    """Write a label map while it is made; ``path`` appears when it is complete.

    Up to 255 classes are stored as one byte a pixel, with the palette, so that viewers show colours. Both forms are
    compressed; the TIFF is tiled, becomes a BigTIFF above 4 GB, and has the names of the classes in its description.

    Args:
        path: with the ending ``.tif`` or ``.png``.
        bands: (rows, W) class indices, from top to bottom.
        size: height and width.
        dtype: uint8 or uint16.
        classes: their names.
        palette: their colours, RGB.
        extra_tags: further tags of a TIFF.
    """
    with replacing(path) as draft:
        if path.suffix == '.png':
            with draft.open('wb') as file:
                _write_png(file, bands, size, dtype, palette)
        else:
            _write_tiff(draft, bands, size, dtype, classes, palette, extra_tags)


def _write_tiff(
    path: Path,
    bands: Iterator[np.ndarray],
    size: tuple[int, int],
    dtype: type,
    classes: Sequence[str],
    palette: Palette,
    extra_tags: tuple,
) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        tiles(bands, size),
        shape=size,
        dtype=dtype,
        tile=(TILE, TILE),
        compression='zlib',
        maxworkers=1,  # more would let it collect tiles
        description=json.dumps({'classes': list(classes)}),
        metadata=None,
        extratags=extra_tags,
        **colour_table(dtype, palette),
    )


def colour_table(dtype: type, palette: Palette) -> dict[str, Any]:
    """What tells tifffile to store a palette, which 16 bits have not."""
    if dtype != np.uint8:
        return {'photometric': 'minisblack'}
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(palette)] = np.asarray(palette).T * 257
    return {'photometric': 'palette', 'colormap': table}


def tiles(bands: Iterator[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The bands of a map as tiles, left to right and top to bottom; those at the edges are filled up with zeros."""
    for chunk in regroup(bands, TILE):
        for left in range(0, size[1], TILE):
            part = chunk[:, left : left + TILE]
            tile = np.zeros((TILE, TILE), chunk.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def regroup(bands: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows, as many at a time; fewer at the end."""
    held: list[np.ndarray] = []
    for band in bands:
        held.append(band)
        if sum(map(len, held)) >= rows:
            joined = np.concatenate(held)
            whole = len(joined) // rows * rows
            for top in range(0, whole, rows):
                yield joined[top : top + rows]
            held = [joined[whole:]]
    rest = np.concatenate(held)
    if len(rest):
        yield rest


def _write_png(
    file: BinaryIO, bands: Iterator[np.ndarray], size: tuple[int, int], dtype: type, palette: Palette
) -> None:
    """Neither PIL nor OpenCV writes a PNG by rows. Eight bits have a palette; sixteen are grey, high byte first."""
    height, width = size
    indexed = dtype == np.uint8
    if max(size) > PNG_LIMIT:
        raise UserValueError(f'a PNG has at most {PNG_LIMIT} rows and columns: write a TIFF')
    file.write(b'\x89PNG\r\n\x1a\n')
    _chunk(file, b'IHDR', struct.pack('>IIBBBBB', width, height, 8 if indexed else 16, 3 if indexed else 0, 0, 0, 0))
    if indexed:
        _chunk(file, b'PLTE', np.asarray(palette, np.uint8).tobytes())
    packer = zlib.compressobj(6)
    for band in bands:
        content = np.ascontiguousarray(band, dtype='>u1' if indexed else '>u2').view(np.uint8).reshape(len(band), -1)
        # In front of each row stands the number of its filter: none.
        packed = packer.compress(np.pad(content, ((0, 0), (1, 0))).tobytes())
        if packed:
            _chunk(file, b'IDAT', packed)
    _chunk(file, b'IDAT', packer.flush())
    _chunk(file, b'IEND', b'')


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content)))
