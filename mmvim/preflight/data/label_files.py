"""One image and its label map, read from the disk as far as judging them needs."""

import os
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
from PIL import Image, ImageFile

from mmvim.errors import UserOSError

ORIENTATION = 0x0112  # of EXIF
TURNED = range(5, 9)  # orientations that exchange width and height
COLOURS = 1024  # as many are remembered of a label map in colours


@dataclass
class Pair:
    """What was read of an image and its label map.

    Attributes:
        image, label: The files; ``label`` is None where the data set names none.
        image_fault, label_fault: ``''``, ``'undecodable'`` or ``'cut off'`` (opens, but ends too early).
        size: Width and height of the image as stored.
        orientation: That of EXIF; 1 is upright.
        label_size: Width and height of the label map.
        channels: Of the label map, as the pipeline decodes it.
        whole: Whether all values of the label map are whole numbers.
        values, counts: Values of the label map and their numbers of pixels, if it has one channel.
        colours: Colours of the label map as RGB, if it has more; empty if there are too many.
    """

    image: str
    label: str | None
    image_fault: str = ''
    label_fault: str = ''
    size: tuple[int, int] | None = None
    orientation: int = 1
    label_size: tuple[int, int] | None = None
    channels: int = 1
    whole: bool = True
    values: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    colours: frozenset[tuple[int, int, int]] = frozenset()


def look_at_image(path: str) -> tuple[str, tuple[int, int] | None, int]:
    """Fault, stored width and height, and EXIF orientation of an image; every byte of it is decoded."""
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft('L', (1, 1))  # for a JPEG: small and grey, several times faster
            try:
                image.load()
            except OSError:
                return 'cut off' if _opencv_reads(path) else 'undecodable', size, 1
            return '', size, image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        array = cv2.imread(path, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        return ('undecodable', None, 1) if array is None else ('', array.shape[1::-1], 1)


def _opencv_reads(path: str) -> bool:
    return cv2.imread(path, cv2.IMREAD_COLOR) is not None


def read_label(path: str, backend: str) -> np.ndarray:
    """A label map as mmcv decodes it ``'unchanged'``, before mmseg makes 8 bits of it.

    Args:
        path: The file.
        backend: ``'pillow'``, mmseg's own, which keeps the numbers of palette images; or ``'cv2'``, which makes
            colours of them.

    Raises:
        OSError: If it cannot be decoded.
    """
    content = Path(path).read_bytes()
    if backend == 'pillow':
        with Image.open(BytesIO(content)) as image:
            return np.array(image).squeeze()
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if array is None:
        raise UserOSError(f'{path} is no image')
    return (array if array.ndim == 2 else array[..., [2, 1, 0, *range(3, array.shape[2])]]).squeeze()


def examine(files: tuple[str, str | None], backend: str = 'pillow') -> Pair:
    """Read an image and its label map; the files are there."""
    image, label = files
    pair = Pair(image, label)
    pair.image_fault, pair.size, pair.orientation = look_at_image(image)
    if label is None:
        return pair
    try:
        array = read_label(label, backend)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        pair.label_fault = 'cut off' if 'truncated' in str(error) else 'undecodable'
        return pair
    if array.ndim < 2:  # squeezed: one pixel wide or high
        array = np.atleast_2d(array)
    pair.label_size = array.shape[1::-1]
    if array.ndim == 3:
        pair.channels = array.shape[2]
        pair.colours = _colours(array)
    else:
        pair.whole, pair.values, pair.counts = _values(array)
    return pair


def _values(array: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
    if array.dtype in (np.uint8, np.uint16, np.bool_):
        counts = np.bincount(array.ravel())
        values = np.flatnonzero(counts)
        return True, values, counts[values]
    values, counts = np.unique(array, return_counts=True)
    whole = bool(np.all(np.isfinite(values)) and np.all(values == np.round(values)))
    return whole, values, counts


def _colours(array: np.ndarray) -> frozenset[tuple[int, int, int]]:
    if array.shape[2] < 3 or array.dtype != np.uint8:
        return frozenset()
    packed = array[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    packed = np.unique(packed)
    if len(packed) > COLOURS:
        return frozenset()
    return frozenset((int(c) >> 16, (int(c) >> 8) & 255, int(c) & 255) for c in packed)


def _one_thread() -> None:
    cv2.setNumThreads(0)
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def examine_all(
    files: list[tuple[str, str | None]],
    backend: str = 'pillow',
    processes: int | None = None,
    seconds: float | None = None,
    progress=iter,
) -> list[Pair]:
    """Read images and label maps, with one process for each core.

    Args:
        files: Image and label map (or None) of each sample; all are there.
        backend: See :func:`read_label`.
        processes: Their number; the cores that this process may use by default.
        seconds: Stop after so long, with what was read until then.
        progress: Wraps the iterator over results, to show how far it is.

    Returns:
        What was read, in the order of ``files``.
    """
    if seconds is not None and seconds <= 0.0:
        return []
    end = None if seconds is None else monotonic() + seconds
    processes = min(processes or len(os.sched_getaffinity(0)), max(len(files) // 8, 1))
    look = partial(examine, backend=backend)

    def until_the_end(pairs) -> list[Pair]:
        return list(islice(_until(progress(pairs), end), len(files)))

    if processes == 1:
        return until_the_end(map(look, files))
    with get_context('fork').Pool(processes, _one_thread) as pool:
        return until_the_end(pool.imap(look, files, chunksize=4 if seconds else 32))


def _until(pairs, end: float | None):
    for pair in pairs:
        yield pair
        if end is not None and monotonic() > end:
            return
