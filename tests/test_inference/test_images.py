"""Images of any kind are read as mmcv reads them in training, or refused in a sentence."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv import imfrombytes
from PIL import Image

from mmvim.inference.images import count_pixels, read_image

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)


def turned(path: Path) -> None:
    """A JPEG that says it is to be turned by a quarter."""
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x112] = 6
    image.save(path, exif=exif)


WRITERS = {
    'colours.png': lambda path: cv2.imwrite(str(path), RGB),
    'colours.jpg': lambda path: cv2.imwrite(str(path), RGB),
    'colours.webp': lambda path: cv2.imwrite(str(path), RGB),
    'colours.bmp': lambda path: cv2.imwrite(str(path), RGB),
    'colours.tif': lambda path: cv2.imwrite(str(path), RGB),
    'grey.png': lambda path: cv2.imwrite(str(path), RGB[..., 0]),
    'deep.png': lambda path: cv2.imwrite(str(path), RGB.astype(np.uint16) * 256 + 7),
    'deep.tif': lambda path: cv2.imwrite(str(path), RGB[..., 0].astype(np.uint16) * 256 + 7),
    'transparent.png': lambda path: cv2.imwrite(str(path), np.dstack([RGB, RGB[..., 0]])),
    'palette.png': lambda path: Image.fromarray(RGB).quantize(16).save(path),
    'bits.png': lambda path: Image.fromarray(RGB[..., 0] > 127).save(path),
    'one.png': lambda path: cv2.imwrite(str(path), RGB[:1, :1]),
    'turned.jpg': turned,
}  # fmt: skip


@pytest.mark.parametrize('name', WRITERS)
def test_as_in_training(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, imfrombytes(path.read_bytes()))
    assert count_pixels(path) == image.shape[0] * image.shape[1]
    if name == 'turned.jpg':
        assert image.shape == (40, 24, 3)


def test_array(tmp_path: Path) -> None:
    np.save(tmp_path / 'x.npy', RGB)
    np.testing.assert_array_equal(read_image(tmp_path / 'x.npy'), RGB[..., ::-1])
    assert count_pixels(tmp_path / 'x.npy') == 24 * 40


def complaint(path: Path) -> str:
    """The sentence about a file."""
    with pytest.raises(ValueError, match=path.name) as caught:
        read_image(path)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.webp', '.tif'])
def test_damaged(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f'x{ending}'
    cv2.imwrite(str(path), np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 'cut off' in complaint(path) or 'cannot be read as an image' in complaint(path)


def test_no_image(tmp_path: Path) -> None:
    path = tmp_path / 'x.jpg'
    path.write_bytes(b'')
    assert 'cannot be read as an image (of no known kind)' in complaint(path)
    path.write_text('a letter')
    assert 'cannot be read as an image (of no known kind)' in complaint(path)
    with pytest.raises(ValueError, match=r'x\.jpg'):
        count_pixels(path)


def test_size_of_an_image_that_nobody_could_hold(tmp_path: Path) -> None:
    path = tmp_path / 'x.png'
    Image.new('1', (20_000, 12_000)).save(path)  # above the limit from which on PIL refuses
    limit = Image.MAX_IMAGE_PIXELS
    assert count_pixels(path) == 240_000_000
    assert limit == Image.MAX_IMAGE_PIXELS
