"""Drawing what a model sees in one file after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import is_main_process
from mmengine.infer import BaseInferencer
from rich.progress import Progress

from mmvim.engine.oom import is_out_of_memory
from mmvim.errors import UserError, UserValueError

from .channels import channels_of
from .detect import detect_large
from .grid import Size
from .images import count_pixels, read_image
from .inferencer import draw, number_of_classes, predict
from .inputs import is_video
from .large import segment_large
from .reading import MAPS, PLAIN, SLIDES, Reading
from .smooth import Smoothing
from .video import convert_video
from .write import write_image

#: Logits of a whole picture, as many as mmseg keeps twice; more, and the picture is drawn smaller.
MOST_LOGITS = 1 << 28
#: Pixels from which on an image is segmented by a window: more than cameras have.
LARGE = 64_000_000


@dataclass(frozen=True)
class LargeOptions:
    """How images are segmented by windows, see :func:`.large.segment_large`."""

    reading: Reading = PLAIN
    blend: str = 'mean'
    resume: bool = False


class Demo:
    """A model that looks at one file after another.

    Args:
        inferencer: of :func:`.inferencer.build_inferencer`.
        progress: where the bars of videos and large images appear.
        score: confidence from which on boxes and masks are drawn.
        window: height and width of the window over large images; by default the config's.
        stride: steps of the window; by default the config's, or two thirds of the window.
        batch: windows at a time.
        large: further options of :func:`.large.segment_large`.
        smooth: weight of the newest frame in the average over a video's frames; no average by default.

    Raises:
        ValueError: if frames are to be averaged and the model is no segmentor, or the weight is none.
    """

    def __init__(
        self,
        inferencer: BaseInferencer,
        progress: Progress,
        score: float = 0.3,
        window: Size | None = None,
        stride: Size | None = None,
        batch: int = 4,
        large: LargeOptions | None = None,
        smooth: float | None = None,
    ) -> None:
        self.notes: list[str] = []
        self._inferencer = inferencer
        self._progress = progress
        self._score = score
        self._window = window
        self._stride = stride
        self._batch = batch
        self._large = large or LargeOptions()
        self._segments = hasattr(inferencer.model, 'decode_head')
        self._smooth = smooth
        if smooth is not None:
            if not self._segments:
                raise UserValueError('--smooth averages the classes of pixels, and this is a detector: leave it out')
            Smoothing(smooth)

    def look_at(self, file: Path, out: Path) -> list[Path]:
        """Write the outputs of one input.

        Args:
            file: image or video.
            out: folder and beginning of the names of the outputs.

        Returns:
            The files that were written.

        Raises:
            ValueError, OSError, RuntimeError, ...: whatever makes that impossible.
        """
        if not (is_main_process() or self._by_windows(file)):
            return []  # of all processes one is enough
        if is_video(file):
            path = out.with_name(f'{out.name}.mp4')
            smoothing = None if self._smooth is None else Smoothing(self._smooth)
            with self._bar(f'{file.name}: frames') as bar:
                convert_video(file, path, lambda frame: self._drawn(file, frame, smoothing), *bar)
            return [path]
        if self._by_windows(file):
            with self._bar(f'{file.name}: windows') as bar:
                return self._large_outputs(file, out, bar)
        path = out.with_name(f'{out.name}.png')
        write_image(path, self._drawn(file, read_image(file)))
        return [path]

    def _by_windows(self, file: Path) -> bool:
        """Whether an input is looked at in its own resolution."""
        if is_video(file):
            return False
        asked = self._window or self._stride or self._large.reading != PLAIN
        if asked or file.suffix.lower() in (*MAPS, *SLIDES) or channels_of(self._inferencer.model) != 3:
            return True
        return count_pixels(file) > LARGE

    def _large_outputs(self, file: Path, out: Path, bar: tuple) -> list[Path]:
        settings = (self._inferencer, file, out, self._window, self._stride, self._batch, *bar)
        if self._segments:
            return segment_large(*settings, **vars(self._large), note=self.notes.append)
        if self._large != LargeOptions(self._large.reading):
            raise UserValueError('--blend and --resume are for segmentors: leave them out')
        if not is_main_process():
            return []
        return detect_large(*settings, score=self._score, reading=self._large.reading, note=self.notes.append)

    def _drawn(self, file: Path, image: np.ndarray, smoothing: Smoothing | None = None) -> np.ndarray:
        """What is seen in an image, drawn; smaller than the image if the logits of that would take too much memory."""
        height, width = image.shape[:2]
        logits = height * width * number_of_classes(self._inferencer.model)
        if self._segments and logits > MOST_LOGITS:
            ratio = (MOST_LOGITS / logits) ** 0.5
            size = max(int(width * ratio), 1), max(int(height * ratio), 1)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            note = f'{file} is drawn with {size[0]} x {size[1]} pixels instead of {width} x {height}, to save memory'
            if note not in self.notes:
                self.notes.append(note)
        found = predict(self._inferencer, image)
        if smoothing is not None:
            found = smoothing(found, self._inferencer.model.decode_head.threshold)
        return draw(self._inferencer, image, found, self._score)

    @contextmanager
    def _bar(self, title: str) -> Iterator[tuple]:
        """What sets the length of a bar, and what advances it."""
        task = self._progress.add_task(title, total=None)
        try:
            yield (
                lambda total: self._progress.update(task, total=total or None),
                lambda steps: self._progress.advance(task, steps),
            )
        finally:
            self._progress.remove_task(task)


def sentence(file: Path, error: Exception) -> str:
    """Why an input failed, with its name."""
    if is_out_of_memory(error):
        return f'{file} needs more memory than there is: make it smaller, or take --window 512'
    text = ' '.join(str(error).split())
    if not isinstance(error, (UserError, ValueError, OSError)):
        text = f'{type(error).__name__}: {text}'
    return text if file.name in text else f'{file}: {text}'
