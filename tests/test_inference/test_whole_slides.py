"""Slides: the level or resolution that was asked for, without the glass, and labels that QuPath can open."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import rasterio.features
import shapely
import tifffile
from mmengine.infer import BaseInferencer
from small_segmentor import load, write_segmentor

from mmvim.inference import segment_large
from mmvim.inference.inputs import find_inputs
from mmvim.inference.ome_tiff import Glass
from mmvim.inference.outputs import LabelMap
from mmvim.inference.reading import Reading
from mmvim.inference.rows import open_rows

HEIGHT, WIDTH = 700, 1100
WINDOWS = (64, 64), (42, 42)


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory: pytest.TempPathFactory) -> BaseInferencer:
    return load(write_segmentor(tmp_path_factory.mktemp('model')))


@pytest.fixture(scope='module')
def stained() -> tuple[np.ndarray, np.ndarray]:
    """A blot with a hole on glass, RGB, and where it is."""
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(inside, (430, 330), (260, 190), 10, 0, 360, 1, -1)
    cv2.circle(inside, (450, 300), 60, 0, -1)
    generator = np.random.default_rng(0)
    noise = np.kron(generator.integers(0, 40, (HEIGHT // 10, WIDTH // 10, 3)), np.ones((10, 10, 1)))
    colours = np.array([150, 60, 130]) + noise
    return np.where(inside[..., None], colours, 243).astype(np.uint8), inside.astype(bool)


def write_slide(path: Path, pixels: np.ndarray, mpp: float | None = 0.5, steps: tuple[int, ...] = (1, 4)) -> Path:
    """A slide as Aperio's scanners write it."""
    height, width = pixels.shape[:2]
    about = f'Aperio Image Library v1\r\n{width}x{height} [0,0 {width}x{height}] (256x256)' + (
        f'|MPP = {mpp}' if mpp else ''
    )
    with tifffile.TiffWriter(path) as file:
        for step in steps:
            part = cv2.resize(pixels, (width // step, height // step), interpolation=cv2.INTER_AREA)
            file.write(part, photometric='rgb', tile=(256, 256), compression='zlib', description=about, metadata=None)
    return path


@pytest.fixture(scope='module')
def slide(tmp_path_factory: pytest.TempPathFactory, stained: tuple[np.ndarray, np.ndarray]) -> Path:
    return write_slide(tmp_path_factory.mktemp('slides') / 'x.svs', stained[0])


@pytest.mark.parametrize(
    ('options', 'size', 'mpp'),
    [
        ({}, (HEIGHT, WIDTH), 0.5),
        ({'level': 1}, (HEIGHT // 4, WIDTH // 4), 2.0),
        ({'mpp': 2.0}, (HEIGHT // 4, WIDTH // 4), 2.0),
        ({'mpp': 1.0}, (HEIGHT // 2, WIDTH // 2), 1.0),  # made from level 0
        ({'mpp': 3.0}, (117, 183), 3.0),  # made from level 1
    ],
)
def test_level_or_resolution(
    options: dict, size: tuple[int, int], mpp: float, slide: Path, stained: tuple[np.ndarray, np.ndarray]
) -> None:
    """What is read is the picture made smaller, the same in parts of any height."""
    with open_rows(slide, Reading(**options, background=True)) as rows:
        assert (rows.height, rows.width) == size
        assert rows.output.mpp == pytest.approx(mpp)
        assert f'{mpp:.4g} microns per pixel' in rows.notes[0]
        whole = rows.read(0, rows.height)
        tops = range(0, rows.height, 37)
        np.testing.assert_array_equal(np.concatenate([rows.read(t, min(t + 37, rows.height)) for t in tops]), whole)
        assert rows.mask(0, 10) is None
    expected = cv2.resize(stained[0], size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
    assert np.abs(whole.astype(int) - expected).mean() < 4
    if size == (HEIGHT, WIDTH):
        np.testing.assert_array_equal(whole, expected)


def test_glass_is_neither_read_nor_segmented(
    inferencer: BaseInferencer, stained: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.full((1500, 2500, 3), 243, np.uint8)
    large[:HEIGHT, :WIDTH] = stained[0]
    inside = np.zeros((1500, 2500), bool)
    inside[:HEIGHT, :WIDTH] = stained[1]
    path = write_slide(tmp_path / 'x.svs', large)
    with open_rows(path, Reading(), (64, 64)) as rows:
        read = 0
        original = rows._region

        def counted(top: int, bottom: int, left: int, right: int) -> np.ndarray:
            nonlocal read
            read += (bottom - top) * (right - left)
            return original(top, bottom, left, right)

        monkeypatch.setattr(rows, '_region', counted)
        pixels, mask = rows.read(0, 1500), rows.mask(0, 1500)
        assert read < 0.4 * large[..., 0].size
        assert rows.effort(0, 700) > 0.15 and rows.effort(800, 1500) == 0
    assert mask[inside].all()
    assert (mask & ~inside).mean() < 0.02
    near = cv2.dilate(mask.astype(np.uint8), np.ones((127, 127), np.uint8)) > 0  # what a window with tissue can see
    np.testing.assert_array_equal(pixels[near], large[..., ::-1][near])
    np.testing.assert_array_equal(pixels, large[..., ::-1])  # the glass has its colour
    everything, without = (
        segment_large(
            inferencer, path, tmp_path / 'x', (64, 64), (64, 64), reading=Reading(level=1, background=background)
        )
        and tifffile.imread(tmp_path / 'x_labels.ome.tif')
        for background in (True, False)
    )
    with open_rows(path, Reading(level=1)) as rows:
        mask = rows.mask(0, rows.height)
    assert (without[~mask] == 255).all()
    np.testing.assert_array_equal(without[mask], everything[mask])
    assert 255 not in everything


def test_label_map_and_polygons(
    inferencer: BaseInferencer, slide: Path, stained: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """A pyramid that tifffile reads; polygons that shapely holds for valid and that cover what the labels do."""
    written = segment_large(inferencer, slide, tmp_path / 'x', *WINDOWS, reading=Reading(mpp=1.0))
    assert [path.name for path in written] == ['x_labels.ome.tif', 'x.geojson', 'x.png']
    with tifffile.TiffFile(written[0]) as file:
        assert file.is_ome
        assert [level.shape for level in file.series[0].levels] == [(350, 550), (175, 275)]
        labels, smaller = (level.asarray() for level in file.series[0].levels)
        assert 'PhysicalSizeX="1.0"' in file.ome_metadata and 'PhysicalSizeXUnit="µm"' in file.ome_metadata
        assert '<M K="0">building</M>' in file.ome_metadata and '<M K="255">background</M>' in file.ome_metadata
        assert file.pages.first.is_tiled
    np.testing.assert_array_equal(smaller, labels[::2, ::2])
    assert openslide.OpenSlide(written[0]).level_count == 1  # opens; openslide takes subIFDs for no levels
    document = json.loads(written[1].read_text())
    assert document['type'] == 'FeatureCollection' and document['features']
    shapes = []
    for feature in document['features']:
        assert feature['type'] == 'Feature' and feature['properties']['objectType'] == 'annotation'
        kind = feature['properties']['classification']
        label = inferencer.model.dataset_meta['classes'].index(kind['name'])
        assert kind['color'] == list(inferencer.model.dataset_meta['palette'][label])
        polygon = shapely.geometry.shape(feature['geometry'])
        assert polygon.is_valid and polygon.geom_type == 'Polygon'
        shapes.append((polygon, label))
    halves = rasterio.Affine.scale(2)  # coordinates are those of the finest level
    drawn = rasterio.features.rasterize(shapes, labels.shape, fill=255, transform=halves, dtype=np.uint8)
    np.testing.assert_array_equal(drawn, labels)
    assert sum(len(polygon.interiors) for polygon, _ in shapes) > 0
    assert sum(polygon.area for polygon, _ in shapes) == (labels != 255).sum() * 4
    left, top, right, bottom = shapely.union_all([polygon for polygon, _ in shapes]).bounds
    rows, columns = np.flatnonzero(stained[1].any(1)), np.flatnonzero(stained[1].any(0))
    assert [left, top, right, bottom] == pytest.approx([columns[0], rows[0], columns[-1], rows[-1]], abs=6)


def test_same_labels_same_bytes(tmp_path: Path) -> None:
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (60, 110)), np.ones((10, 10))).astype(np.uint16)
    labels[:5] = 65535
    (tmp_path / 'scratch').mkdir()
    found = LabelMap(
        600, 1100, np.uint16, ['a', 'b', 'c'], [(1, 2, 3)] * 3, 65535, lambda: np.array_split(labels, 7), tmp_path
    )
    for name in 'xy':
        Glass(2.5, None).write(tmp_path / f'{name}_labels.ome.tif', found)
    for ending in ('_labels.ome.tif', '.geojson'):
        assert (tmp_path / f'x{ending}').read_bytes() == (tmp_path / f'y{ending}').read_bytes()
    with tifffile.TiffFile(tmp_path / 'x_labels.ome.tif') as file:
        np.testing.assert_array_equal(file.series[0].levels[2].asarray(), labels[::4, ::4])


def test_a_slide_of_one_level_is_never_read_whole(
    stained: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / 'x.svs', np.tile(stained[0], (3, 3, 1)), steps=(1,))
    sizes = []
    original = openslide.OpenSlide.read_region
    monkeypatch.setattr(openslide.OpenSlide, 'read_region', lambda *args: sizes.append(args[-1]) or original(*args))
    with open_rows(path, Reading()) as rows:
        mask = rows.mask(0, rows.height)
    assert max(high for _, high in sizes) <= 256
    assert (mask[:HEIGHT, :WIDTH] == mask[HEIGHT : 2 * HEIGHT, :WIDTH]).mean() > 0.99
    assert mask[:HEIGHT, :WIDTH][stained[1]].all()


def complaint(path: Path, **options: object) -> str:
    """What is said of a slide that cannot be read so."""
    with pytest.raises(ValueError, match=path.name) as caught, open_rows(path, Reading(**options)) as rows:
        rows.read(0, rows.height)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be(slide: Path, stained: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    assert 'has no level 2; it has 0: 1100 x 700, 1: 275 x 175' in complaint(slide, level=2)
    assert 'has 0.5 microns per pixel at its finest: take --mpp 0.5 or more' in complaint(slide, mpp=0.2)
    assert 'is less than one pixel at 1e+06 microns per pixel' in complaint(slide, mpp=1e6)
    silent = write_slide(tmp_path / 'silent.svs', stained[0], mpp=None)
    assert 'does not say how many microns a pixel is: take --level instead' in complaint(silent, mpp=1.0)
    with open_rows(silent, Reading(level=1)) as rows:
        assert '1/4 of the finest level' in rows.notes[0]
    content = slide.read_bytes()
    cut = tmp_path / 'cut.svs'
    cut.write_bytes(content[: len(content) // 3])
    assert complaint(cut)
    cut.write_bytes(b'no slide')
    assert 'cannot be read as a slide' in complaint(cut)


def test_a_slide_whose_pixels_are_damaged(slide: Path, tmp_path: Path) -> None:
    content = bytearray(slide.read_bytes())
    with tifffile.TiffFile(slide) as file:
        page = file.pages.first
        start, length = page.dataoffsets[7], page.databytecounts[7]
    content[start : start + length] = bytes(length)
    (tmp_path / 'x.svs').write_bytes(content)
    assert 'cannot be read, or ends too early' in complaint(tmp_path / 'x.svs', background=True)


def test_any_tiff_with_a_level_is_a_slide(slide: Path, tmp_path: Path) -> None:
    (tmp_path / 'x.tif').write_bytes(slide.read_bytes())
    with open_rows(tmp_path / 'x.tif', Reading(level=1)) as rows:
        assert (rows.height, rows.width) == (HEIGHT // 4, WIDTH // 4)
    assert find_inputs(slide).files == [slide]


def test_without_openslide(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'openslide', None)
    with (
        pytest.raises(ModuleNotFoundError, match=r'x\.svs needs openslide; .* pip install "\.\[slides\]"'),
        open_rows(slide),
    ):
        pass
