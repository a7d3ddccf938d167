"""The images that an annotation file lists: that they are there, can be decoded, and have the size it gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from PIL import Image

from ..file_names import Folders
from ..label_files import ORIENTATION, TURNED, examine_all
from ..tally import Kind, Severity, Tally

MISSING = Kind(
    Severity.ERROR,
    'images that are missing',
    'put them there, correct data_root or data_prefix, or take them off the list.',
)
OTHER_CASE = Kind(
    Severity.ERROR,
    'images whose names differ in case',
    'give files and file_name the same name: only some systems are lax.',
)
OTHER_SUFFIX = Kind(Severity.ERROR, 'images with another suffix', 'correct file_name in the annotation file.')
OTHER_FOLDER = Kind(
    Severity.ERROR,
    'images whose file_name has a folder too many or too few',
    'correct data_prefix: the place is data_root, data_prefix and file_name one after the other.',
)
UNDECODABLE = Kind(Severity.ERROR, 'images that cannot be decoded', 'copy or export them again.')
CUT_OFF = Kind(Severity.WARNING, 'images that end too early', 'copy them again: what is missing is read as grey.')
OTHER_SIZE = Kind(
    Severity.WARNING,
    'images of another size than the annotation file says',
    'see whether they were resized after labelling; if the boxes fit the images, correct height and width.',
)
TURNED_IMAGES = Kind(
    Severity.WARNING,
    'images that EXIF turns by 90 degrees, while height, width and boxes are those of the unturned image',
    'turn the boxes, or save the images without EXIF (the boxes then fit).',
)
MAYBE_TURNED = Kind(
    Severity.WARNING,
    'images that EXIF turns or mirrors, of the same size either way',
    'look at some: boxes have to fit the image as a viewer shows it.',
)

Expected = tuple[str, tuple[float, float]]  # file; width and height


def check_images(images: Iterable[Expected], folders: Folders, tally: Tally) -> list[Expected]:
    """Find images that are missing.

    Returns:
        Those that are there.
    """
    there = []
    for path, size in images:
        if folders.has(path):
            there.append((path, size))
            continue
        found = folders.instead(path)
        name = os.path.basename(path)
        place = f'{path} (there is {found})' if found else path
        if not found:
            folder = os.path.dirname(path)
            lies = next(
                (near for near in (os.path.dirname(folder), *_repeated(folder)) if name in folders.names(near)), ''
            )
            tally.add(OTHER_FOLDER if lies else MISSING, f'{path} (it is in {lies or "."})' if lies else path)
        elif found.lower() == name.lower():
            tally.add(OTHER_CASE, place)
        else:
            tally.add(OTHER_SUFFIX, place)
    return there


def _repeated(folder: str) -> list[str]:
    """The folder without a part that is there twice in a row: data_prefix and file_name both have it."""
    head, last = os.path.split(folder)
    return [head] if os.path.basename(head) == last else []


def check_headers(images: Iterable[Expected], tally: Tally, goes_on: Callable[[], bool]) -> None:
    """Compare sizes with those in the files' first bytes, as long as there is time."""
    for path, size in images:
        if not goes_on():
            return
        if '://' in path:
            continue
        try:
            with Image.open(path) as image:
                check_size(path, size, image.size, image.getexif().get(ORIENTATION, 1), tally)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            tally.add(UNDECODABLE, path)


def check_contents(images: list[Expected], tally: Tally, progress: Callable[[Iterable], Iterable]) -> None:
    """Decode images, and compare their sizes."""
    local = [entry for entry in images if '://' not in entry[0]]
    pairs = examine_all([(path, None) for path, _ in local], progress=progress)
    for pair, (path, size) in zip(pairs, local, strict=True):
        if pair.image_fault == 'undecodable':
            tally.add(UNDECODABLE, path)
            continue
        if pair.image_fault:
            tally.add(CUT_OFF, path)
        check_size(path, size, pair.size, pair.orientation, tally)


def check_size(path: str, said: tuple[float, float], stored: tuple[int, int], orientation: int, tally: Tally) -> None:
    """Compare the width and height that the annotation file gives with those of the file, and of what is read of it."""
    read = stored[::-1] if orientation in TURNED else stored
    if tuple(said) == read and (orientation == 1 or orientation in TURNED and read != stored):
        return
    place = f'{path}: {_by(said)} in the annotation file, {_by(stored)} in the image'
    if tuple(said) not in (read, stored):
        tally.add(OTHER_SIZE, place)
    elif tuple(said) != read:
        tally.add(TURNED_IMAGES, f'{place}, {_by(read)} when it is read')
    elif orientation in range(2, 9):
        tally.add(MAYBE_TURNED, path)


def _by(size: tuple[float, float]) -> str:
    return f'{size[0]:g} x {size[1]:g}'
