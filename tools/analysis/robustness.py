"""How much a small VMamba depends on its initialisation and its activation: the study of its paper, on the miniature.

    python tools/analysis/robustness.py [--quick] [--inits mamba zero ...] [--activations silu relu ...] [--out DIR]

Trains every initialisation (Mamba's, random and zero for the scans; Xavier and He for the linear layers) with every
activation and several seeds, in processes of one thread each, and writes a table and a picture of mIoU, losses and
effective receptive fields. Finished runs are kept: the same command goes on after an interruption. Takes about 10
minutes on 2 cores, with --quick about 4.
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
from mmvim.analysis.robustness import ACTIVATIONS, ARCH, INITS, plan, train
from mmvim.analysis.robustness_report import show, write
from mmvim.analysis.small_segmentor import Budget, ensure_images, require_mmseg
from mmvim.analysis.study import Study, carry_out
from mmvim.commands import run_tool

FULL = {'seeds': 3, 'iterations': 300, 'out': Path('work_dirs/robustness')}
QUICK = {'seeds': 2, 'iterations': 150, 'out': Path('work_dirs/robustness_quick')}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--inits', nargs='+', default=INITS, metavar='NAME', help=f'of {", ".join(INITS)}')
    parser.add_argument('--activations', nargs='+', default=ACTIVATIONS, metavar='NAME', help=', '.join(ACTIVATIONS))
    parser.add_argument('--seeds', type=int, help='default: {seeds}, with --quick {}'.format(QUICK['seeds'], **FULL))
    parser.add_argument(
        '--iterations', type=int, help='default: {iterations}, with --quick {}'.format(QUICK['iterations'], **FULL)
    )
    parser.add_argument('--quick', action='store_true', help='fewer iterations and seeds')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes at once (default: %(default)s)')
    parser.add_argument(
        '--data', type=Path, default=Path('data/ade_miniature'), help='folder of the miniature; drawn if it is missing'
    )
    parser.add_argument('--out', type=Path, help='default: {out}, with --quick {}'.format(QUICK['out'], **FULL))
    args = parser.parse_args()
    for name, usual in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
    if min(args.seeds, args.workers) < 1 or args.iterations < 2:
        parser.error('--seeds and --workers are 1 or more, --iterations 2 or more')
    require_mmseg()
    budget, runs = Budget(args.iterations), plan(args.inits, args.activations, args.seeds)
    study = Study(args.out, {**asdict(budget), 'arch': ARCH})
    ensure_images(args.data, budget.train, budget.val, budget.side)
    console = Console(soft_wrap=True, highlight=False)
    results, code = carry_out(
        study, {run.name: (run, budget, args.data) for run in runs}, train, args.workers,
        lambda result: f'mIoU {result["mIoU"]:.1f} %, {result["seconds"]:.0f} s', console,
    )  # fmt: skip
    if results:
        show(results, console)
        about = {**machine(), 'processes': str(args.workers), 'command': shlex.join(['python', *sys.argv])}
        for path in write(results, study.budget, about, study.folder):
            console.print(str(path))
    raise SystemExit(code)


if __name__ == '__main__':
    run_tool(main)
