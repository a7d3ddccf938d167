"""Reading images of any kind that people have, as mmdet and mmseg expect them: three channels of 8 bits, BGR."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmvim.errors import UserValueError

from .channels import to_bgr

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.webp', '.tif', '.tiff', '.npy')


def count_pixels(path: str | Path) -> int:
    """Height times width of an image file, from its header.

    Raises:
        ValueError: if it is no image.
    """
    if Path(path).suffix.lower() == '.npy':
        return int(np.prod(open_array(path).shape[:2]))
    with _opened(path) as image:
        return image.width * image.height


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file whole; an orientation in its EXIF data is applied.

    Grey becomes three equal channels, transparency is left out, and 16 bits become 8 by dropping the lower half: what
    mmcv does in training and testing.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ValueError: if the file is no image, is cut off, or has pixels of another kind.
    """
    if Path(path).suffix.lower() == '.npy':
        return to_bgr(np.asarray(open_array(path)), str(path))
    # OpenCV fills what is missing of a file with grey and says nothing; PIL tells.
    with _opened(path) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, MemoryError) as error:
            raise UserValueError(f'{path} is damaged or cut off ({error})') from error
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UserValueError(f'{path} is more than OpenCV reads ({error.err}): save it as a tiled TIFF') from error
    if pixels is None or pixels.dtype != np.uint8:
        raise UserValueError(f'{path} has pixels that OpenCV does not bring to 8 bits: save it as an 8-bit PNG')
    return pixels


def open_array(path: str | Path) -> np.ndarray:
    """The array in a ``.npy`` file, left on disk.

    Raises:
        ValueError: if it is none, or no image by its shape.
    """
    try:
        array = np.load(path, mmap_mode='r')
    except (ValueError, EOFError, OSError) as error:
        raise UserValueError(f'{path} is no array of numpy, or is cut off ({error})') from error
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserValueError(f'{path} has the shape {array.shape}, an image has (height, width) or (height, width, 3)')
    return array


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """A file opened by PIL, whatever its size."""
    # The limit is there for servers that take files from strangers.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of damaged EXIF data
            try:
                image = Image.open(path)
            except (OSError, SyntaxError, ValueError) as error:
                raise UserValueError(f'{path} cannot be read as an image ({_reason(error, path)})') from error
            with image:
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _reason(error: Exception, path: str | Path) -> str:
    if not isinstance(error, Image.UnidentifiedImageError):
        return str(error)
    bands = Path(path).suffix.lower() in ('.tif', '.tiff')
    return f'of no known kind{"; if it has many bands choose some, such as --bands 4,3,2" if bands else ""}'
