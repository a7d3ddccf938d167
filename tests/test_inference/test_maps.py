"""Maps: labels at the place of the image on earth, bands of any number and kind, and what cannot be."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from mmengine.infer import BaseInferencer
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from small_segmentor import load, write_segmentor

from mmvim.inference import segment_large, slide
from mmvim.inference.channels import Channels, channels_of, to_bgr, to_picture
from mmvim.inference.cog import Earth
from mmvim.inference.outputs import LabelMap
from mmvim.inference.reading import PLAIN, Reading
from mmvim.inference.rows import open_rows

ROTATED = Affine.translation(500_000, 5_500_000) * Affine.rotation(20) * Affine.scale(0.5, -0.5)
WINDOWS = (64, 64), (42, 42)


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory: pytest.TempPathFactory) -> BaseInferencer:
    return load(write_segmentor(tmp_path_factory.mktemp('model')))


def noise(count: int = 3, kind: type = np.uint8, most: float = 256) -> np.ndarray:
    """(bands, 130, 200), coarse."""
    values = np.random.default_rng(0).random((count, 13, 20)) * most
    return np.kron(values, np.ones((10, 10))).astype(kind)


def write_map(path: Path, bands: np.ndarray, crs: str | None = 'EPSG:32632', **more: Any) -> Path:
    """A GeoTIFF, rotated."""
    count, height, width = bands.shape
    more = {'transform': ROTATED, 'crs': crs, 'dtype': bands.dtype, **more}
    with rasterio.open(path, 'w', driver='GTiff', count=count, height=height, width=width, **more) as file:
        file.write(bands)
    return path


def pixels_of(path: Path, channels: Channels = to_bgr) -> np.ndarray:
    """All that the model sees, read a few rows at a time."""
    with open_rows(path, Reading(channels)) as rows:
        steps = range(0, rows.height, 37)
        return np.concatenate([rows.read(top, min(top + 37, rows.height)) for top in steps])


def test_labels_lie_where_the_image_lies(inferencer: BaseInferencer, tmp_path: Path) -> None:
    source = write_map(tmp_path / 'x.tif', noise())
    notes: list[str] = []
    written = segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, note=notes.append)
    assert [path.name for path in written] == ['x_labels.tif', 'x.png']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.png', 'x.tif', 'x_labels.tif']
    with rasterio.open(tmp_path / 'x_labels.tif') as file, rasterio.open(source) as image:
        assert (file.crs, file.transform, file.shape) == (image.crs, image.transform, image.shape)
        assert file.nodata is None
        assert file.colormap(1)[3] == (*inferencer.model.dataset_meta['palette'][3], 255)
        assert json.loads(file.tags()['TIFFTAG_IMAGEDESCRIPTION'])['classes'][0] == 'building'
        labels = file.read(1)
    # The same pixels that lie nowhere have the same labels.
    tifffile.imwrite(tmp_path / 'y.tif', np.moveaxis(noise(), 0, -1), photometric='rgb')
    segment_large(inferencer, tmp_path / 'y.tif', tmp_path / 'y', *WINDOWS)
    np.testing.assert_array_equal(labels, tifffile.imread(tmp_path / 'y_labels.tif'))
    assert len(np.unique(labels)) > 1
    assert len(notes) == 1 and all(word in notes[0] for word in ('reading', 'model', 'writing', ' %'))


def label_map(scratch: Path, labels: np.ndarray) -> LabelMap:
    return LabelMap(
        *labels.shape,
        labels.dtype.type,
        ['a', 'b', 'c'],
        [(1, 2, 3)] * 3,
        255,
        lambda: np.array_split(labels, 7),
        scratch,
    )


def test_layout_of_the_label_map(tmp_path: Path) -> None:
    """Tiles, overviews, directories in front of the pixels, and the same bytes each time."""
    labels = np.random.default_rng(0).integers(0, 3, (1100, 1300)).astype(np.uint8)
    (tmp_path / 'scratch').mkdir()
    earth = Earth(rasterio.CRS.from_epsg(32632), ROTATED, [], None, nodata=True)
    for name in ('x.tif', 'y.tif'):
        earth.write(tmp_path / name, label_map(tmp_path / 'scratch', labels))
    assert (tmp_path / 'x.tif').read_bytes() == (tmp_path / 'y.tif').read_bytes()
    with rasterio.open(tmp_path / 'x.tif') as file:
        assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert (file.overviews(1), file.block_shapes, file.nodata) == ([2, 4], [(512, 512)], 255)
        np.testing.assert_array_equal(file.read(1), labels)
        assert set(np.unique(file.read(1, out_shape=(275, 325)))) == {0, 1, 2}  # no mixed classes in overviews
    with tifffile.TiffFile(tmp_path / 'x.tif') as file:
        first_pixels = min(min(page.dataoffsets) for page in file.pages)
        assert max(page.offset for page in file.pages) < first_pixels
        assert [page.compression.name for page in file.pages] == ['ADOBE_DEFLATE'] * 3


def test_points_on_the_ground(inferencer: BaseInferencer, tmp_path: Path) -> None:
    points = [
        GroundControlPoint(0, 0, 7.0, 48.0),
        GroundControlPoint(0, 200, 7.1, 48.0),
        GroundControlPoint(130, 0, 7, 47),
    ]
    with rasterio.open(tmp_path / 'x.tif', 'w', driver='GTiff', count=3, height=130, width=200, dtype=np.uint8) as file:
        file.write(noise())
        file.gcps = points, 'EPSG:4326'
    segment_large(inferencer, tmp_path / 'x.tif', tmp_path / 'x', *WINDOWS)
    with rasterio.open(tmp_path / 'x_labels.tif') as file:
        found, crs = file.gcps
        assert crs == 'EPSG:4326'
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


def test_without_a_system_of_coordinates(inferencer: BaseInferencer, tmp_path: Path) -> None:
    source = write_map(tmp_path / 'x.tif', noise(), crs=None)
    notes: list[str] = []
    segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, note=notes.append)
    assert 'x.tif names no coordinate system, nor do its labels' in notes[0]
    with rasterio.open(tmp_path / 'x_labels.tif') as file:
        assert file.crs is None and file.transform == ROTATED


@pytest.mark.parametrize('kind', ['value', 'mask', 'alpha'])
def test_pixels_that_show_nothing(
    kind: str, inferencer: BaseInferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the label for nothing, and windows of nothing else are not run."""
    bands = noise() | 1
    shown = np.ones(bands.shape[1:], bool)
    shown[:70, :110] = shown[100:, 150:] = False
    if kind == 'value':
        source = write_map(tmp_path / 'x.tif', bands * shown, nodata=0)
    elif kind == 'alpha':
        source = write_map(
            tmp_path / 'x.tif', np.stack([*bands, shown * np.uint8(255)]), photometric='RGB', alpha='YES'
        )
    else:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            source = write_map(tmp_path / 'x.tif', bands)
            with rasterio.open(source, 'r+') as file:
                file.write_mask(shown)
    windows = 0
    original = slide.window_logits

    def counted(model: object, group: list) -> object:
        nonlocal windows
        windows += len(group)
        return original(model, group)

    monkeypatch.setattr(slide, 'window_logits', counted)
    done: list[int] = []
    segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, advance=done.append)
    with rasterio.open(tmp_path / 'x_labels.tif') as file:
        assert file.nodata == 255
        np.testing.assert_array_equal(file.read(1) != 255, shown)
        np.testing.assert_array_equal(file.read_masks(1) > 0, shown)
    assert windows < sum(done) == 3 * 5


def test_more_bands_than_three(tmp_path: Path) -> None:
    """A model of four channels sees four bands in the order asked for; the picture shows the first three."""
    inferencer = load(write_segmentor(tmp_path, channels=4))
    assert channels_of(inferencer.model) == 4
    bands = noise(6)
    source = write_map(tmp_path / 'x.tif', bands)
    chosen = Channels(4, bands=(6, 2, 1, 4))
    np.testing.assert_array_equal(pixels_of(source, chosen), np.moveaxis(bands[[5, 1, 0, 3]], 0, -1))
    written = segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, reading=Reading(chosen))
    with rasterio.open(written[0]) as file:
        assert len(np.unique(file.read(1))) > 1
    with pytest.raises(
        ValueError, match=r'x\.tif has 6 bands, and the model takes 4: name some, as in --bands 1,2,3,4'
    ):
        segment_large(inferencer, source, tmp_path / 'x', *WINDOWS)
    inferencer.model.data_preprocessor.mean = torch.zeros(3, 1, 1)
    with pytest.raises(ValueError, match='the backbone takes 4 channels and data_preprocessor.mean has 3'):
        segment_large(inferencer, source, tmp_path / 'x', *WINDOWS)


def test_near_infrared_that_is_taken_for_transparency(tmp_path: Path) -> None:
    """As GDAL does with a fourth band of 8 bits: whoever names it means it."""
    bands = noise(4)
    bands[3, :20] = 0
    source = write_map(tmp_path / 'x.tif', bands)
    with rasterio.open(source) as file:
        assert file.colorinterp[3].name == 'alpha'
    np.testing.assert_array_equal(pixels_of(source, Channels(bands=(4, 3, 2))), np.moveaxis(bands[[1, 2, 3]], 0, -1))
    with open_rows(source, Reading(Channels(bands=(4, 3, 2)))) as rows:
        assert rows.mask(0, 20) is None
    with open_rows(source) as rows:
        assert not rows.mask(0, 20).any()


@pytest.mark.parametrize('ending', ['tif', 'npy'])
def test_three_of_many_bands_are_red_green_blue(ending: str, tmp_path: Path) -> None:
    bands = noise(6)
    path = tmp_path / f'x.{ending}'
    if ending == 'npy':
        np.save(path, np.moveaxis(bands, 0, -1))
    else:
        write_map(path, bands)
    np.testing.assert_array_equal(pixels_of(path, Channels(bands=(4, 3, 2))), np.moveaxis(bands[[1, 2, 3]], 0, -1))
    with pytest.raises(ValueError, match=r'has no band 7: it has 6'):
        pixels_of(path, Channels(bands=(7, 3, 2)))
    with pytest.raises(ValueError, match=r'--bands names 2, and the model takes 3'):
        pixels_of(path, Channels(bands=(7, 3)))
    with pytest.raises(ValueError, match=r'6 channels: choose three of them, such as --bands 4,3,2'):
        pixels_of(path)


def test_numbers_of_any_kind(tmp_path: Path) -> None:
    """Of 16 bits the upper 8, of 12 the upper 8; anything by a scale; floats by nothing else."""
    path = tmp_path / 'x.tif'
    deep = noise(3, np.uint16, 4096)
    expected = np.moveaxis(deep, 0, -1)[..., ::-1]
    np.testing.assert_array_equal(pixels_of(write_map(path, deep)), expected >> 8)
    np.testing.assert_array_equal(pixels_of(write_map(path, deep, nbits=12)), expected >> 4)
    scaled = np.rint(expected / 4095 * 255)
    np.testing.assert_array_equal(pixels_of(path, Channels(scale=(0, 4095))), scaled)
    floats = noise(3, np.float32, 1.0)
    floats[0, :10] = np.nan
    write_map(path, floats)
    with pytest.raises(ValueError, match=r'pixels of float32: say which are black and white, such as --scale 0,1'):
        pixels_of(path)
    seen = pixels_of(path, Channels(scale=(0.25, 0.75)))
    expected = np.moveaxis(floats, 0, -1)[..., ::-1]
    np.testing.assert_array_equal(seen, np.rint(np.nan_to_num((expected - 0.25) / 0.5).clip(0, 1) * 255))
    raw = pixels_of(path, Channels(raw=True))
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, np.nan_to_num(expected))
    assert to_picture(raw).dtype == np.uint8
    write_map(path, noise(3, np.int16, 1000) - np.int16(500))
    with pytest.raises(ValueError, match='pixels of int16'):
        pixels_of(path)
    assert pixels_of(path, Channels(scale=(-500, 500))).max() > 200
    write_map(path, noise(3, np.complex64, 1.0))
    with pytest.raises(ValueError, match=r'x\.tif has complex numbers: save their magnitudes'):
        pixels_of(path, Channels(scale=(0, 1)))


def test_nearly_black_is_told(inferencer: BaseInferencer, tmp_path: Path) -> None:
    source = write_map(tmp_path / 'x.tif', noise(3, np.uint16, 4096))
    notes: list[str] = []
    segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, note=notes.append)
    assert any('the model saw at most 15 of 255' in note and '--scale 0,4095' in note for note in notes)
    segment_large(
        inferencer, source, tmp_path / 'y', *WINDOWS, reading=Reading(Channels(scale=(0, 4095))), note=notes.append
    )
    assert sum('at most' in note for note in notes) == 1


def test_palette_and_mosaic(tmp_path: Path) -> None:
    colours = {number: (number, 255 - number, 7, 255) for number in range(256)}
    with rasterio.open(
        tmp_path / 'x.tif', 'w', driver='GTiff', count=1, height=130, width=200, dtype=np.uint8, transform=ROTATED
    ) as file:
        file.write(noise(1))
        file.write_colormap(1, colours)
    index = noise(1)[0]
    expected = np.stack([np.full_like(index, 7), 255 - index, index], axis=-1)
    np.testing.assert_array_equal(pixels_of(tmp_path / 'x.tif'), expected)
    write_map(tmp_path / 'y.tif', noise())
    rasterio.shutil.copy(tmp_path / 'y.tif', tmp_path / 'y.vrt', driver='VRT')
    np.testing.assert_array_equal(pixels_of(tmp_path / 'y.vrt'), np.moveaxis(noise(), 0, -1)[..., ::-1])


def test_a_map_that_ends_too_early(inferencer: BaseInferencer, tmp_path: Path) -> None:
    """What was finished stays, and goes on with the whole file under the same name."""
    whole = write_map(tmp_path / 'whole.tif', noise(), blockysize=10).read_bytes()
    path = tmp_path / 'x.tif'
    path.write_bytes(whole[: len(whole) * 3 // 4])
    notes: list[str] = []
    with pytest.raises(ValueError, match=r'x\.tif cannot be read, or ends too early \(') as caught:
        segment_large(inferencer, path, tmp_path / 'x', *WINDOWS, note=notes.append)
    assert '\n' not in str(caught.value)
    assert any('x_labels.parts keeps 1 of 3 rows of windows: --resume goes on' in note for note in notes)
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match='is no TIFF'):
        pixels_of(path)
    (tmp_path / 'x.vrt').write_text('no')
    with pytest.raises(ValueError, match=r'x\.vrt cannot be read'):
        pixels_of(tmp_path / 'x.vrt')


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As with a disk that is full: what is written beyond is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_while_bands_are_kept(inferencer: BaseInferencer, tmp_path: Path) -> None:
    source = write_map(tmp_path / 'x.tif', noise())
    expected = segment_large(inferencer, source, tmp_path / 'y', *WINDOWS)[0].read_bytes()
    count = 0

    def advance(_: int) -> None:
        nonlocal count
        count += 1
        if count == 4:  # in the second row of windows
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    notes: list[str] = []
    try:
        with pytest.raises(OSError, match=r'x_labels\.parts cannot be written \(File too large\): make room'):
            segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, 4, advance=advance, note=notes.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'keeps 1 of 3 rows' in notes[-1]
    assert segment_large(inferencer, source, tmp_path / 'x', *WINDOWS, resume=True)[0].read_bytes() == expected


@pytest.mark.parametrize('size', [100_000, 700_000, 1_100_000])
def test_full_disk_while_the_map_is_written(size: int, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (1000, 1000)).astype(np.uint8)
    (tmp_path / 'scratch').mkdir()
    (tmp_path / 'x.tif').write_text('of an earlier run')
    earth = Earth(None, ROTATED, [], None, nodata=False)
    with (
        files_of_at_most(size),
        pytest.raises(OSError, match=r'x\.tif cannot be written: is the disk full\?') as caught,
    ):
        earth.write(tmp_path / 'x.tif', label_map(tmp_path / 'scratch', labels))
    assert '\n' not in str(caught.value)
    assert (tmp_path / 'x.tif').read_text() == 'of an earlier run'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['scratch', 'x.tif']


def test_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps are read as any TIFF; what tifffile cannot read says what to install."""
    source = write_map(tmp_path / 'x.tif', noise(), compress='deflate', photometric='RGB')
    expected = pixels_of(source)
    monkeypatch.setattr('mmvim.inference.geotiff.find_spec', lambda _: None)
    np.testing.assert_array_equal(pixels_of(source), expected)
    monkeypatch.setitem(__import__('sys').modules, 'rasterio', None)
    (tmp_path / 'x.jp2').touch()
    with pytest.raises(ModuleNotFoundError, match=r'x\.jp2 needs rasterio; .* pip install "\.\[geo\]"'):
        pixels_of(tmp_path / 'x.jp2')


def test_only_slides_have_levels(tmp_path: Path) -> None:
    np.save(tmp_path / 'x.npy', np.moveaxis(noise(), 0, -1))
    assert not PLAIN.of_a_slide
    with (
        pytest.raises(ValueError, match=r'x\.npy is no slide, which --level and --mpp are for'),
        open_rows(tmp_path / 'x.npy', Reading(level=0)),
    ):
        pass
