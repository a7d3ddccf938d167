"""What models that were trained at one size of images do at others: mIoU and time of Vim, VMamba, DeiT and Swin.

    python tools/analysis/resolution.py [--quick] [--models vim deit ...] [--sizes 128 256 ...] [--out DIR]

Trains small models on drawn scenes of 128 x 128 pixels, then tests them on scenes drawn at each size, and on the
training's size enlarged to it. Position embeddings are resized as the models do it. Finished runs are kept: the same
command goes on after an interruption. Takes about 5 minutes on 2 cores, with --quick about 1.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mmvim.analysis.measure import machine
from mmvim.analysis.resolution import NAMES, draw_all, plan, train_and_test
from mmvim.analysis.resolution_report import show, write
from mmvim.analysis.small_segmentor import Budget, require_mmseg
from mmvim.analysis.study import Study, carry_out
from mmvim.commands import run_tool
from mmvim.miniature.scenes import SMALLEST_SIDE

SIZES = (128, 192, 256, 384, 512)
FULL = {'seeds': 3, 'iterations': 300, 'out': Path('work_dirs/resolution')}
QUICK = {'seeds': 1, 'iterations': 150, 'out': Path('work_dirs/resolution_quick')}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', default=NAMES, metavar='NAME', help=f'of {", ".join(NAMES)}')
    parser.add_argument('--sizes', nargs='+', type=int, default=SIZES, metavar='PIXELS', help='sides of the scenes')
    parser.add_argument('--seeds', type=int, help='default: {seeds}, with --quick {}'.format(QUICK['seeds'], **FULL))
    parser.add_argument(
        '--iterations', type=int, help='default: {iterations}, with --quick {}'.format(QUICK['iterations'], **FULL)
    )
    parser.add_argument('--quick', action='store_true', help='fewer iterations and seeds')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes at once (default: %(default)s)')
    parser.add_argument(
        '--data', type=Path, default=Path('data/resolution'), help='folder of the scenes; drawn if they are missing'
    )
    parser.add_argument('--out', type=Path, help='default: {out}, with --quick {}'.format(QUICK['out'], **FULL))
    args = parser.parse_args()
    for name, usual in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
    if min(args.seeds, args.workers) < 1 or args.iterations < 2 or min(args.sizes) < SMALLEST_SIDE:
        parser.error(f'--seeds and --workers are 1 or more, --iterations 2 or more, --sizes {SMALLEST_SIDE} or more')
    require_mmseg()
    budget, sizes = Budget(args.iterations, batch=4, crop=128, val=16), sorted(set(args.sizes))
    runs = plan(args.models, args.seeds)
    study = Study(args.out, {**asdict(budget), 'sizes': sizes})
    draw_all(args.data, budget, sizes)
    console = Console(soft_wrap=True, highlight=False)
    results, code = carry_out(
        study, {run.name: (run, budget, sizes, args.data) for run in runs}, train_and_test, args.workers,
        lambda result: f'{_mious(result)}, {result["seconds"]:.0f} s', console,
    )  # fmt: skip
    if results:
        show(results, console)
        about = {**machine(), 'processes': str(args.workers), 'command': shlex.join(['python', *sys.argv])}
        for path in write(results, study.budget, about, study.folder):
            console.print(str(path))
    raise SystemExit(code)


def _mious(result: dict) -> str:
    return 'mIoU ' + ', '.join(f'{row["drawn"]:.1f} % at {row["size"]}' for row in result['sizes'])


if __name__ == '__main__':
    run_tool(main)
