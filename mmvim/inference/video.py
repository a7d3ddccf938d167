"""Videos frame by frame, through OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from mmvim.errors import UserOSError, UserValueError
from mmvim.files import replacing

from .ahead import read_ahead

#: Frames that are decoded before they are needed.
AHEAD = 4


def convert_video(
    source: Path,
    out: Path,
    change: Callable[[np.ndarray], np.ndarray],
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a video whose frames are those of another one, changed.

    :data:`AHEAD` frames at most wait in memory, read by a thread while ``change`` works. ``out`` appears when the last
    one is written; where the source breaks off or changes its size, with what came before.

    Args:
        source: the video.
        out: an ``.mp4``.
        change: (H, W, 3) uint8, BGR, to the same, of one size for all frames.
        begin: is told how many frames the file promises, 0 if it does not say.
        advance: is told of each frame.

    Raises:
        ValueError: if the source is no video, or has no frames; if it breaks off or its frames change their size,
            after ``out`` was written.
        OSError: if OpenCV cannot write.
    """
    reader = cv2.VideoCapture(str(source))
    try:
        promised = max(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        rate = reader.get(cv2.CAP_PROP_FPS) or 25.0
        good, first = reader.read()
        if not good:
            raise UserValueError(f'{source} cannot be read as a video, has no frames, or its first frame is damaged')
        begin(promised)
        with read_ahead(_frames(reader, first), AHEAD) as frames, replacing(out) as draft:
            done, odd = _write(draft, out, rate, frames, change, advance)
    finally:
        reader.release()
    if odd is not None:
        sizes = ' to '.join(f'{width} x {height}' for height, width in (first.shape[:2], odd))
        raise UserValueError(
            f'{source} changes its size from {sizes} after {done} frames; {out} has those: '
            'cut the video there, or bring it to one size'
        )
    if done < promised:
        raise UserValueError(f'{source} breaks off after {done} of {promised} frames; {out} has those')


def _frames(reader: cv2.VideoCapture, first: np.ndarray) -> Iterator[np.ndarray]:
    good, frame = True, first
    while good:
        yield frame
        good, frame = reader.read()


def _write(
    draft: Path,
    out: Path,
    rate: float,
    frames: Iterator[np.ndarray],
    change: Callable[[np.ndarray], np.ndarray],
    advance: Callable[[int], None],
) -> tuple[int, tuple[int, int] | None]:
    """Write frames until they end or one has another size: how many, and height and width of that one."""
    writer, done, size = None, 0, None
    try:
        for frame in frames:
            size = size or frame.shape[:2]
            if frame.shape[:2] != size:
                return done, frame.shape[:2]
            picture = change(frame)
            if writer is None:
                height, width = picture.shape[:2]
                writer = cv2.VideoWriter(str(draft), cv2.VideoWriter_fourcc(*'mp4v'), rate, (width, height))
                if not writer.isOpened():
                    raise UserOSError(f'{out} cannot be written as a video: this OpenCV has no encoder for MPEG-4')
            writer.write(np.ascontiguousarray(picture))
            done += 1
            advance(1)
        return done, None
    finally:
        if writer is not None:
            writer.release()
