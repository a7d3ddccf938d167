"""What ``tools/check_data.py`` does: check the data sets of a config, and show what is in them."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmvim.errors import UserFileNotFoundError, UserModuleNotFoundError, UserValueError
from mmvim.preflight.config import load_config
from mmvim.preflight.data.chart import draw_classes
from mmvim.preflight.data.checker import Checker, Statistics
from mmvim.preflight.data.overlap import check_overlap
from mmvim.preflight.data.parts import checkers_of
from mmvim.preflight.data.places import STAGES
from mmvim.preflight.data.places import check_data as check_places
from mmvim.preflight.data.show import show_statistics, show_table
from mmvim.preflight.data.tally import Tally
from mmvim.preflight.finding import demand
from mmvim.preflight.packages import check_packages

from .options import parse

PICTURES = 12


def check_data(argv: Sequence[str] | None = None) -> None:
    """Check as the command line says (see ``tools/check_data.py --help``); exit code 1 if anything is to be corrected.

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args = parse(_parser(), argv)
    if args.images is not None and args.images < 1:
        raise UserValueError(f'--images {args.images}: give a number from 1 on, or leave it out for all of them.')
    cfg = load_config(args.config, args.cfg_options)
    demand(check_packages(cfg), UserModuleNotFoundError)
    demand(check_places(cfg, *args.stage), UserFileNotFoundError)
    console, outside, trained, failed, stages = Console(), Tally(), [], False, Counter()
    for checker in checkers_of(cfg, args.stage, outside):
        tally, statistics = _look(checker, args.images)
        if checker.stage == 'train':
            trained += checker.image_files()
        elif trained:
            check_overlap(trained, checker.image_files(), tally, contents=args.images is None)
        name = f'{checker.stage}: {checker.name}'
        show_table(name, tally, console)
        show_statistics(f'{checker.stage}: statistics', statistics, console)
        if args.out is not None:
            stages[checker.stage] += 1  # which may have several data sets
            number = f'_{stages[checker.stage]}' if stages[checker.stage] > 1 else ''
            for path in _draw(checker, statistics, Path(args.out, f'{checker.stage}{number}')):
                console.print(str(path), soft_wrap=True, highlight=False)
        failed |= tally.fails_check
    if list(outside):
        show_table(args.config, outside, console)
    if failed or outside.fails_check:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Check the data sets of a config before a model sees them: every annotation, image and label map.'
    )
    parser.add_argument('config', help='config file, as for tools/train.py')
    parser.add_argument('--stage', nargs='+', choices=STAGES, default=list(STAGES), help='data sets to check (all)')
    parser.add_argument('--images', type=int, metavar='N', help='open N images or label maps of each data set (all)')
    parser.add_argument('--out', metavar='FOLDER', help='draw some images with their labels, and the classes as bars')
    return parser


def _look(checker: Checker, images: int | None) -> tuple[Tally, Statistics]:
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def progress(items: Iterable, total: int, what: str) -> Iterator:
            return bars.track(items, total=total, description=what)

        bars.add_task(f'{checker.stage}: annotations', total=None)
        return checker.full(images, progress)


def _draw(checker: Checker, statistics: Statistics, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = checker.draw(folder, PICTURES)
    if statistics.classes:
        files.append(draw_classes(statistics, f'{checker.stage}: {checker.name}', folder / 'classes.png'))
    return files
