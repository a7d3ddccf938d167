"""What ``tools/demo.py`` does: draw what a model sees in images, folders and videos."""

import argparse
import io
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmvim.engine.cpu import keep_freed_memory
from mmvim.engine.quiet import quiet
from mmvim.errors import UserRuntimeError, UserValueError
from mmvim.inference.channels import Channels
from mmvim.inference.choose import choose
from mmvim.inference.demo import Demo, LargeOptions, sentence
from mmvim.inference.grid import Size
from mmvim.inference.inferencer import build_inferencer
from mmvim.inference.inputs import check_out, find_inputs, output_stems
from mmvim.inference.processes import join_processes
from mmvim.inference.reading import Reading
from mmvim.inference.smooth import WEIGHT
from mmvim.preflight.finding import demand
from mmvim.preflight.launcher import check_launcher


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what a model sees; see ``tools/demo.py --help``.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0; 1 if an input failed; 130 if the user stopped it.
    """
    args = _parser().parse_args(argv)
    demand(check_launcher(args.launcher), UserRuntimeError)
    device = join_processes(args.device) if args.launcher == 'pytorch' else args.device
    # Of several processes the first one talks.
    console = Console(file=sys.stdout, soft_wrap=True, markup=False, highlight=False, quiet=not is_main_process())
    inputs = find_inputs(args.input)
    out = Path(args.out)
    check_out(out, inputs.files)
    check_device(device)
    with quiet(), redirect_stdout(io.StringIO()), console.status('loading the model'):
        cfg, weights = choose(args.model, args.weights)
        inferencer = build_inferencer(cfg, weights, device, args.amp)
    if next(inferencer.model.parameters()).device.type == 'cpu':
        keep_freed_memory()
    console.print(str(inferencer.report))
    if inferencer.precision:
        console.print(f'--amp: {inferencer.precision}')
    out.mkdir(parents=True, exist_ok=True)
    channels = Channels(bands=args.bands, scale=None if args.scale == 'raw' else args.scale, raw=args.scale == 'raw')
    large = LargeOptions(Reading(channels, args.level, args.mpp, args.background), args.blend, args.resume)
    written, failed = [], []
    bars = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with quiet(), Progress(*bars, console=console, transient=True) as progress:
            demo = Demo(inferencer, progress, args.score_thr, args.window, args.stride, args.batch, large, args.smooth)
            overall = progress.add_task('inputs', total=len(inputs.files))
            for file, stem in output_stems(inputs.files).items():
                try:
                    written += demo.look_at(file, out / stem)
                except Exception as error:  # noqa: BLE001  the others are still to be looked at
                    failed.append(sentence(file, error))
                    console.print(f'failed: {failed[-1]}')
                progress.advance(overall)
    except KeyboardInterrupt:
        for note in demo.notes:
            console.print(note)
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
    parser.add_argument('--amp', action='store_true', help='mixed precision: bf16 on a CPU, fp16 on a GPU')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='draw boxes from this confidence on (default: %(default)s)'
    )
    parser.add_argument(
        '--smooth',
        nargs='?',
        type=float,
        const=WEIGHT,
        metavar='WEIGHT',
        help='average the logits of a segmentor over the frames of a video, with this weight of the newest '
        '(alone: %(const)s)',
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
    large.add_argument(
        '--blend', choices=['mean', 'gaussian'], default='mean',
        help='how overlapping windows count: alike, or less towards their sides (default: %(default)s)',
    )  # fmt: skip
    large.add_argument(
        '--bands', type=band_numbers, metavar='N,N,...', help="bands, from 1, for the model's channels, such as 4,3,2"
    )
    large.add_argument(
        '--scale', type=low_high, metavar='LOW,HIGH|raw',
        help='numbers that become 0 and 255, such as 0,4095 for 12 bits; raw: as they are, for a model trained so',
    )  # fmt: skip
    resolution = large.add_mutually_exclusive_group()
    resolution.add_argument('--level', type=level_number, metavar='N', help='of a slide; 0 is the finest (default: 0)')
    resolution.add_argument('--mpp', type=positive, metavar='MICRONS', help='of a slide: microns per pixel')
    large.add_argument('--background', action='store_true', help='run windows on the glass of a slide as well')
    large.add_argument('--resume', action='store_true', help='go on where an interrupted run has stopped')
    large.add_argument(
        '--launcher', choices=['none', 'pytorch'], default='none',
        help='pytorch: share the windows out over the processes of torchrun (default: %(default)s)',
    )  # fmt: skip
    return parser


# The names of these stand in what argparse says of wrong words.
def height_x_width(text: str) -> Size:
    """Read ``512`` as (512, 512) and ``256x512`` as (256, 512)."""
    height, _, width = text.partition('x')
    return positive_number(height), positive_number(width or height)


def positive_number(text: str) -> int:
    """Read a whole number above zero."""
    number = int(text)
    if number < 1:
        raise UserValueError(text)
    return number


def positive(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < math.inf:
        raise UserValueError(text)
    return number


def level_number(text: str) -> int:
    """Read a whole number from zero on."""
    number = int(text)
    if number < 0:
        raise UserValueError(text)
    return number


def band_numbers(text: str) -> tuple[int, ...]:
    """Read ``4,3,2`` as (4, 3, 2)."""
    return tuple(positive_number(number) for number in text.split(','))


def low_high(text: str) -> tuple[float, float] | str:
    """Read ``0,4095`` as (0.0, 4095.0), and ``raw`` as it is."""
    if text == 'raw':
        return text
    low, high = map(float, text.split(','))
    if not -math.inf < low < high < math.inf:
        raise UserValueError(text)
    return low, high


def check_device(device: str | None) -> None:
    """See that a device is there.

    Raises:
        ValueError: if torch knows none of that name, or it cannot be used.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UserValueError(f'--device {device} cannot be used here ({reason}): leave it out, or take cpu') from error
