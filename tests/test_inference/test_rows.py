"""Images by rows: the pixels that were written, whatever the file is like inside."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmvim.inference import memory
from mmvim.inference import rows as module
from mmvim.inference.rows import Rows, open_rows
from mmvim.inference.write import write_image

RGB = np.random.default_rng(0).integers(0, 256, (150, 203, 3)).astype(np.uint8)
BGR = RGB[..., ::-1]


def in_parts(rows: Rows, step: int = 37) -> np.ndarray:
    """The whole image, a few rows at a time, with every part overlapping nothing."""
    return np.concatenate([rows.read(top, min(top + step, rows.height)) for top in range(0, rows.height, step)])


@pytest.mark.parametrize(
    'layout',
    [
        {'tile': (64, 48)},
        {'tile': (64, 64), 'compression': 'zlib'},
        {'rowsperstrip': 16, 'compression': 'zlib'},
        {'rowsperstrip': 150, 'compression': 'zlib'},  # one strip, which is kept
        {},  # a single strip as it is
        {'tile': (64, 64), 'bigtiff': True},
        {'tile': (64, 64), 'planarconfig': 'separate'},
        {'rowsperstrip': 16, 'planarconfig': 'separate'},
        {'tile': (64, 64), 'byteorder': '>'},
    ],
    ids=str,
)
def test_tiff_of_any_layout(tmp_path: Path, layout: dict) -> None:
    pixels = np.moveaxis(RGB, -1, 0) if layout.get('planarconfig') else RGB
    tifffile.imwrite(tmp_path / 'x.tif', pixels, photometric='rgb', **layout)
    with open_rows(tmp_path / 'x.tif') as rows:
        assert (rows.height, rows.width) == (150, 203)
        np.testing.assert_array_equal(in_parts(rows), BGR)


@pytest.mark.parametrize('step', [1, 64, 65, 150])
def test_any_number_of_rows(tmp_path: Path, step: int) -> None:
    tifffile.imwrite(tmp_path / 'x.tif', RGB, photometric='rgb', tile=(64, 64))
    with open_rows(tmp_path / 'x.tif') as rows:
        np.testing.assert_array_equal(in_parts(rows, step), BGR)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


@pytest.mark.parametrize('kind', ['minisblack', 'miniswhite', 'rgba', 'deep', 'deep rgb', 'bits', 'palette'])
def test_tiff_of_any_colours(tmp_path: Path, kind: str) -> None:
    light = RGB[..., 0]
    table = np.random.default_rng(1).integers(0, 2**16, (3, 256)).astype(np.uint16)
    pixels, options, expected = {
        'minisblack': (light, {}, grey(light)),
        'miniswhite': (light, {}, grey(255 - light)),
        'rgba': (np.dstack([RGB, light]), {'extrasamples': ['unassalpha'], 'photometric': 'rgb'}, BGR),
        'deep': (light * np.uint16(256) + 7, {'photometric': 'minisblack'}, grey(light)),
        'deep rgb': (RGB * np.uint16(256) + 7, {'photometric': 'rgb'}, BGR),
        'bits': (light > 127, {'photometric': 'minisblack'}, grey((light > 127) * np.uint8(255))),
        'palette': (light, {'colormap': table}, np.moveaxis(table >> 8, 0, -1)[light][..., ::-1]),
    }[kind]
    tifffile.imwrite(tmp_path / 'x.tif', pixels, **{'photometric': kind, 'rowsperstrip': 20, **options})
    with open_rows(tmp_path / 'x.tif') as rows:
        np.testing.assert_array_equal(in_parts(rows), expected)


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / 'x.tif', RGB, photometric='rgb', tile=(32, 32), compression='zlib')
    decoded = []
    original = module.TiffRows._decode
    monkeypatch.setattr(module.TiffRows, '_decode', lambda self, i: decoded.append(i) or original(self, i))
    with open_rows(tmp_path / 'x.tif') as rows:
        rows.read(0, 40)
        assert sorted(decoded) == list(range(2 * 7))
        rows.read(40, 150)
        assert sorted(decoded) == list(range(5 * 7))  # the second row of tiles was kept


def test_first_page_of_a_pyramid(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / 'x.tif') as file:
        file.write(RGB, photometric='rgb', tile=(64, 64), subifds=1)
        file.write(RGB[::2, ::2], photometric='rgb', tile=(64, 64), subfiletype=1)
    with open_rows(tmp_path / 'x.tif') as rows:
        np.testing.assert_array_equal(in_parts(rows), BGR)


def test_sparse_tiles_are_black(tmp_path: Path) -> None:
    path = tmp_path / 'x.tif'
    tifffile.imwrite(path, RGB, photometric='rgb', tile=(64, 64))
    with tifffile.TiffFile(path, mode='r+') as file:
        counts = file.pages.first.tags['TileByteCounts']
        counts.overwrite((0, *counts.value[1:]))
    expected = BGR.copy()
    expected[:64, :64] = 0
    with open_rows(path) as rows:
        np.testing.assert_array_equal(in_parts(rows), expected)


def test_place_on_earth_is_kept_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'lies_on_earth', lambda _: False)
    scale = (33550, 'd', 3, (0.5, 0.5, 0.0), True)
    tifffile.imwrite(tmp_path / 'x.tif', RGB, photometric='rgb', tile=(64, 64), extratags=[scale])
    with open_rows(tmp_path / 'x.tif') as rows:
        tifffile.imwrite(tmp_path / 'y.tif', RGB[..., 0], extratags=rows.output.extra_tags)
    with tifffile.TiffFile(tmp_path / 'y.tif') as file:
        assert file.pages.first.tags[33550].value == (0.5, 0.5, 0.0)


@pytest.mark.parametrize('pixels', [RGB, RGB[..., 0], RGB * np.uint16(256), np.dstack([RGB, RGB[..., :1]])])
def test_array_on_disk(tmp_path: Path, pixels: np.ndarray) -> None:
    np.save(tmp_path / 'x.npy', pixels)
    with open_rows(tmp_path / 'x.npy') as rows:
        np.testing.assert_array_equal(in_parts(rows), grey(RGB[..., 0]) if pixels.ndim == 2 else BGR)


def test_other_formats_are_read_whole(tmp_path: Path) -> None:
    write_image(tmp_path / 'x.png', BGR)
    with open_rows(tmp_path / 'x.png') as rows:
        np.testing.assert_array_equal(in_parts(rows), BGR)


def complaint(path: Path) -> str:
    """What is said of a file that cannot be read."""
    with pytest.raises(ValueError, match=path.name) as caught, open_rows(path) as rows:
        in_parts(rows)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tif, npy = tmp_path / 'x.tif', tmp_path / 'x.npy'
    tif.write_bytes(b'no image')
    assert 'is no TIFF' in complaint(tif)
    tifffile.imwrite(tif, RGB, photometric='rgb', tile=(64, 64))
    content = tif.read_bytes()
    tif.write_bytes(content[: len(content) // 2])
    assert 'ends before its last pixel' in complaint(tif)
    tifffile.imwrite(tif, RGB[..., 0].astype(np.float32), photometric='minisblack')
    assert 'pixels of float32' in complaint(tif)
    tifffile.imwrite(tif, np.zeros((50, 60, 9), np.uint8), photometric='minisblack', planarconfig='contig')
    assert '9 channels: choose three' in complaint(tif)
    tifffile.imwrite(tif, np.zeros((32, 32, 32), np.uint8), photometric='minisblack', tile=(16, 16, 16))
    assert 'volume of 32 slices' in complaint(tif)
    np.save(npy, np.zeros(7))
    assert 'has the shape (7,)' in complaint(npy)
    npy.write_bytes(npy.read_bytes()[:-8])
    assert 'cut off' in complaint(npy)
    np.save(npy, np.array([{}], dtype=object), allow_pickle=True)
    assert 'is no array of numpy' in complaint(npy)
    write_image(tmp_path / 'x.png', BGR)
    monkeypatch.setattr(memory, 'free_memory', lambda: 10)
    assert 'takes 0.0 GB in memory' in complaint(tmp_path / 'x.png')


@pytest.mark.parametrize('compression', ['tiff_lzw', 'group4'])
def test_compression_that_tifffile_does_not_know(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without imagecodecs: read whole where there is room, or refused with what to install."""
    monkeypatch.setattr(module, '_can_decode', lambda _: False)
    monkeypatch.setattr(module, 'lies_on_earth', lambda _: False)
    path = tmp_path / 'x.tif'
    image = Image.fromarray(RGB)
    image = image.convert('1') if compression == 'group4' else image
    image.save(path, compression=compression, tiffinfo={33550: (0.5, 0.5, 0.0)})
    with open_rows(path) as rows:
        np.testing.assert_array_equal(in_parts(rows), np.asarray(image.convert('RGB'))[..., ::-1])
        assert [tag[0] for tag in rows.output.extra_tags] == [33550]
    monkeypatch.setattr(memory, 'free_memory', lambda: 10)
    assert 'in parts after pip install imagecodecs' in complaint(path)
    monkeypatch.undo()
    monkeypatch.setattr(module, '_can_decode', lambda _: False)
    monkeypatch.setattr(module, 'lies_on_earth', lambda _: False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert complaint(path)


def test_which_compressions_are_read_in_parts(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'x.tif', RGB, photometric='rgb', compression='zlib')
    with tifffile.TiffFile(tmp_path / 'x.tif') as file:
        assert module._can_decode(file.pages.first)
    Image.fromarray(RGB).save(tmp_path / 'x.tif', compression='tiff_lzw')
    with tifffile.TiffFile(tmp_path / 'x.tif') as file:
        assert module._can_decode(file.pages.first) == (find_spec('imagecodecs') is not None)
