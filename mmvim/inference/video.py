"""Videos frame by frame, through OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmvim.errors import UserOSError, UserValueError
from mmvim.files import replacing


def convert_video(
    source: Path,
    out: Path,
    change: Callable[[np.ndarray], np.ndarray],
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a video whose frames are those of another one, changed.

    One frame is in memory at a time. ``out`` appears when the last one is written; where the source breaks off,
    with what came before.

    Args:
        source: the video.
        out: an ``.mp4``.
        change: (H, W, 3) uint8, BGR, to the same, of one size for all frames.
        begin: is told how many frames the file promises, 0 if it does not say.
        advance: is told of each frame.

    Raises:
        ValueError: if the source is no video; if it breaks off, after ``out`` was written.
        OSError: if OpenCV cannot write.
    """
    reader = cv2.VideoCapture(str(source))
    try:
        promised = max(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        good, frame = reader.read()
        if not good:
            raise UserValueError(f'{source} cannot be read as a video, or its first frame is damaged')
        begin(promised)
        picture = change(frame)
        height, width = picture.shape[:2]
        rate = reader.get(cv2.CAP_PROP_FPS) or 25.0
        done = 0
        with replacing(out) as draft:
            writer = cv2.VideoWriter(str(draft), cv2.VideoWriter_fourcc(*'mp4v'), rate, (width, height))
            try:
                if not writer.isOpened():
                    raise UserOSError(f'{out} cannot be written as a video: this OpenCV has no encoder for MPEG-4')
                while True:
                    writer.write(np.ascontiguousarray(picture))
                    done += 1
                    advance(1)
                    good, frame = reader.read()
                    if not good:
                        break
                    picture = change(frame)
            finally:
                writer.release()
    finally:
        reader.release()
    if done < promised:
        raise UserValueError(f'{source} breaks off after {done} of {promised} frames; {out} has those')
