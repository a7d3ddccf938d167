"""Writing pictures."""

from pathlib import Path

import cv2
import numpy as np

from mmvim.errors import UserOSError
from mmvim.files import replacing


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8, BGR, as the ending of ``path`` says.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as draft:
        if not cv2.imwrite(str(draft), np.ascontiguousarray(image)):
            raise UserOSError(f'{path} cannot be written: see that its folder is there and the disk is not full')
