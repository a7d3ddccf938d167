"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; it becomes ``path`` when all went well, and otherwise nothing is left of it.

    The name begins with a point and keeps the ending, by which writers choose a format.
    """
    draft = path.with_name(f'.{path.stem}.part{path.suffix}')
    try:
        yield draft
        with draft.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8, BGR, as the ending of ``path`` says.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as draft:
        if not cv2.imwrite(str(draft), np.ascontiguousarray(image)):
            raise OSError(f'{path} cannot be written: see that its folder is there and the disk is not full')
