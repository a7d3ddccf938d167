"""Label maps written band by band: what was given is what is read back, and nothing half-written is left."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmvim.files import replacing
from mmvim.inference import labels as module
from mmvim.inference.labels import write_labels
from mmvim.inference.write import write_image

CLASSES = [f'class {n}' for n in range(12)]
PALETTE = [(20 * n, 255 - 20 * n, n) for n in range(12)]


def bands(labels: np.ndarray, *heights: int) -> Iterator[np.ndarray]:
    """A map in pieces of these heights, the last one repeated."""
    top = index = 0
    while top < len(labels):
        height = heights[min(index, len(heights) - 1)]
        yield labels[top : top + height]
        top, index = top + height, index + 1


def some_labels(height: int, width: int, count: int = 12) -> np.ndarray:
    """A map with all classes."""
    kind = np.uint8 if count <= 256 else np.uint16
    return np.random.default_rng(0).integers(0, count, (height, width)).astype(kind)


@pytest.mark.parametrize('ending', ['.tif', '.png'])
@pytest.mark.parametrize(
    ('size', 'heights'),
    [((600, 300), (7,)), ((600, 300), (513, 1)), ((512, 256), (512,)), ((1, 1), (1,)), ((257, 5), (256,))],
)
def test_read_back(tmp_path: Path, ending: str, size: tuple[int, int], heights: tuple[int, ...]) -> None:
    labels = some_labels(*size)
    path = tmp_path / f'x{ending}'
    write_labels(path, bands(labels, *heights), size, np.uint8, CLASSES, PALETTE)
    assert list(tmp_path.iterdir()) == [path]
    picture = Image.open(path)
    assert picture.mode == 'P'
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert('RGB')), np.array(PALETTE)[labels])


@pytest.mark.parametrize('ending', ['.tif', '.png'])
def test_many_classes(tmp_path: Path, ending: str) -> None:
    labels = some_labels(300, 200, 1000)
    path = tmp_path / f'x{ending}'
    write_labels(path, bands(labels, 50), (300, 200), np.uint16, ['x'] * 1000, [(0, 0, 0)] * 1000)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)


def test_tiff_is_tiled_and_says_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / 'x.tif'
    scale = (33550, 'd', 3, (0.5, 0.5, 0.0), True)
    write_labels(path, bands(some_labels(300, 300), 50), (300, 300), np.uint8, CLASSES, PALETTE, (scale,))
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert page.is_tiled
        assert page.compression.name == 'ADOBE_DEFLATE'
        assert '"class 11"' in page.description
        assert page.tags[33550].value == (0.5, 0.5, 0.0)


def test_few_bands_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = written = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal given
        for band in bands(some_labels(4096, 256), 32):
            given += 1
            assert given * 32 - written * module.TILE <= 3 * module.TILE
            yield band

    original = module.tiles

    def watched(*args: object) -> Iterator[np.ndarray]:
        nonlocal written
        for tile in original(*args):
            yield tile
            written += 1

    monkeypatch.setattr(module, 'tiles', watched)
    write_labels(tmp_path / 'x.tif', counted(), (4096, 256), np.uint8, CLASSES, PALETTE)
    assert given == 128


@pytest.mark.parametrize('ending', ['.tif', '.png'])
@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_an_interrupted_map(tmp_path: Path, ending: str, error: type[BaseException]) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from bands(some_labels(600, 300), 100)
        raise error

    path = tmp_path / f'x{ending}'
    path.write_bytes(b'of an earlier run')
    with pytest.raises(error):
        write_labels(path, broken(), (800, 300), np.uint8, CLASSES, PALETTE)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b'of an earlier run'


def test_leftovers_of_a_kill_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / 'x.png'
    with replacing(path) as draft:
        name = draft.name
        draft.write_bytes(b'y')
    (tmp_path / name).write_bytes(b'much more than the next one will be' * 1000)
    write_image(path, np.zeros((2, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == [path]
    assert cv2.imread(str(path)).shape == (2, 2, 3)


def test_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='cannot be written'):
        write_image(tmp_path / 'none' / 'x.png', np.zeros((2, 2, 3), np.uint8))
