"""What ``tools/demo.py`` does: draw what a model sees in images, folders and videos."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.infer import BaseInferencer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmvim.engine.cpu import keep_freed_memory
from mmvim.engine.oom import is_out_of_memory
from mmvim.engine.quiet import quiet

from .choose import choose
from .images import count_pixels, read_image
from .inferencer import build_inferencer, draw, number_of_classes, predict
from .inputs import check_out, find_inputs, is_video, output_stems
from .large import segment_large
from .slide import Size
from .video import convert_video
from .write import write_image

#: Logits of a whole picture, as many as mmseg keeps twice; more, and the picture is drawn smaller.
MOST_LOGITS = 1 << 28
#: Pixels from which on an image is segmented by a window: more than cameras have.
LARGE = 64_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what a model sees; see ``tools/demo.py --help``.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0; 1 if an input failed; 130 if the user stopped it.
    """
    args = _parser().parse_args(argv)
    console = Console(file=sys.stdout, soft_wrap=True, markup=False, highlight=False)
    inputs = find_inputs(args.input)
    out = Path(args.out)
    check_out(out, inputs.files)
    check_device(args.device)
    with quiet(), redirect_stdout(io.StringIO()), console.status('loading the model'):
        cfg, weights = choose(args.model, args.weights)
        inferencer = build_inferencer(cfg, weights, args.device)
    if next(inferencer.model.parameters()).device.type == 'cpu':
        keep_freed_memory()
    console.print(str(inferencer.report))
    out.mkdir(parents=True, exist_ok=True)
    written, failed = [], []
    bars = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with quiet(), Progress(*bars, console=console, transient=True) as progress:
            demo = Demo(inferencer, progress, args)
            overall = progress.add_task('inputs', total=len(inputs.files))
            for file, stem in output_stems(inputs.files).items():
                try:
                    written += demo.look_at(file, out / stem)
                except Exception as error:  # noqa: BLE001  the others are still to be looked at
                    failed.append(_sentence(file, error))
                    console.print(f'failed: {failed[-1]}')
                progress.advance(overall)
    except KeyboardInterrupt:
        console.print(f'interrupted; {len(written)} files are complete in {out}')
        return 130
    for note in demo.notes:
        console.print(note)
    for path in written:
        console.print(str(path))
    skipped = f', {inputs.skipped} others in the folder skipped' if inputs.skipped else ''
    console.print(f'{len(inputs.files) - len(failed)} of {len(inputs.files)} inputs done{skipped}')
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Draw what a detector or a segmentor sees: boxes and masks, or classes.',
        epilog='Large images: docs/large_images.md.',
    )
    parser.add_argument('input', metavar='IMAGE|FOLDER|VIDEO')
    parser.add_argument(
        'model', metavar='MODEL', help='name in the zoo (python tools/zoo.py list), or path of a config'
    )
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS', help='checkpoint (default: the published file)')
    parser.add_argument('--out', default='outputs', help='folder for the pictures (default: %(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='draw boxes from this confidence on (default: %(default)s)'
    )
    large = parser.add_argument_group(
        'large images',
        'Above 64 megapixels, or with --window, an image is segmented in its own resolution by a sliding window, and '
        'its label map is written as a TIFF. Memory grows with classes x height of the window x width of the image.',
    )
    large.add_argument(
        '--window', type=height_x_width, metavar='HxW', help='such as 512 or 256x512 (default: of the config)'
    )
    large.add_argument(
        '--stride', type=height_x_width, metavar='HxW', help='default: of the config, or 2/3 of the window'
    )
    large.add_argument('--batch', type=positive_number, default=4, help='windows at a time (default: %(default)s)')
    return parser


# The names of these two stand in what argparse says of wrong words.
def height_x_width(text: str) -> Size:
    """Read ``512`` as (512, 512) and ``256x512`` as (256, 512)."""
    height, _, width = text.partition('x')
    return positive_number(height), positive_number(width or height)


def positive_number(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def check_device(device: str | None) -> None:
    """See that a device is there.

    Raises:
        ValueError: if torch knows none of that name, or it cannot be used.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f'--device {device} cannot be used here ({reason}): leave it out, or take cpu') from error


class Demo:
    """A model that looks at one file after another.

    Args:
        inferencer: of :func:`.inferencer.build_inferencer`.
        progress: where the bars of videos and large images appear.
        args: of the command line.
    """

    def __init__(self, inferencer: BaseInferencer, progress: Progress, args: argparse.Namespace) -> None:
        self.notes: list[str] = []
        self._inferencer = inferencer
        self._progress = progress
        self._args = args
        self._segments = hasattr(inferencer.model, 'decode_head')

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
        if is_video(file):
            path = out.with_name(f'{out.name}.mp4')
            with self._bar(f'{file.name}: frames') as bar:
                convert_video(file, path, lambda frame: self._drawn(file, frame), *bar)
            return [path]
        asked = self._args.window or self._args.stride
        large = not asked and count_pixels(file) > LARGE
        if self._segments and (large or asked):
            with self._bar(f'{file.name}: windows') as bar:
                return segment_large(
                    self._inferencer, file, out, self._args.window, self._args.stride, self._args.batch, *bar
                )
        if large:
            raise ValueError(f'{file} has more than {LARGE // 10**6} megapixels: cut it up, or make it smaller')
        path = out.with_name(f'{out.name}.png')
        write_image(path, self._drawn(file, read_image(file)))
        return [path]

    def _drawn(self, file: Path, image: np.ndarray) -> np.ndarray:
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
        return draw(self._inferencer, image, predict(self._inferencer, image), self._args.score_thr)

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


def _sentence(file: Path, error: Exception) -> str:
    if is_out_of_memory(error):
        return f'{file} needs more memory than there is: make it smaller, or take --window 512'
    text = ' '.join(str(error).split())
    if not isinstance(error, (ValueError, OSError, ModuleNotFoundError)):
        text = f'{type(error).__name__}: {text}'
    return text if file.name in text else f'{file}: {text}'
