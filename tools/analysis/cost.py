"""What Vim, VMamba, MambaOut and MambaVision cost over the image size, against DeiT, Swin and ResNet, on this machine.

    python tools/analysis/cost.py [--models vim_tiny deit_tiny ...] [--resolutions 224 512 1024] [--out DIR]

Writes a picture and tables of parameters, operations, time and peak memory of a forward pass. The weights are random:
time and memory do not depend on them. A model that does not fit into memory or time at one size is left out at larger
ones. Ctrl-C ends the run and keeps what is finished.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch

from mmvim.analysis.cost import DTYPES, Case, survey, write
from mmvim.analysis.measure import machine
from mmvim.analysis.models import NAMED, title
from mmvim.commands import run_tool

MODELS = (
    'vim_tiny', 'vmamba_tiny', 'mambaout_tiny', 'mambavision_tiny', 'deit_tiny', 'deit_tiny_naive', 'swin_tiny',
    'resnet_50',
)  # fmt: skip
RESOLUTIONS = (224, 384, 512, 768, 1024, 1248, 1536, 2048)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', default=MODELS, metavar='NAME', help=f'of {", ".join(NAMED)}')
    parser.add_argument('--resolutions', nargs='+', type=int, default=RESOLUTIONS, metavar='PIXELS')
    parser.add_argument('--batch', type=int, default=1, help='images at once')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='a GPU where there is one')
    parser.add_argument('--dtype', choices=DTYPES, default='fp32', help='all but fp32 by autocast')
    parser.add_argument('--seconds', type=float, default=3.0, help='how long each measurement is repeated')
    parser.add_argument('--limit', type=float, default=300.0, help='seconds after which a measurement is given up')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/cost'), help='folder for picture and tables')
    args = parser.parse_args()
    if min(*args.resolutions, args.batch) < 1 or min(args.resolutions) < 32:
        parser.error('images have at least 32 pixels a side, and at least one is in a batch')
    for name in args.models:
        title(name)  # before anything is measured
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        parser.error('torch sees no GPU here; use --device cpu')
    about = {**machine(device), 'command': shlex.join(['python', *sys.argv])}
    cases = [
        Case(name, size, args.batch, device, args.dtype) for size in sorted(args.resolutions) for name in args.models
    ]
    rows: list[dict] = []

    def finished(row: dict) -> None:
        rows.append(row)
        figures = f'{row["best"] * 1e3:.1f} ms, {row["memory"] / 1e6:.1f} MB' if 'best' in row else row['note']
        print(f'[{len(rows)}/{len(cases)}] {row["title"]}, {row["size"]} x {row["size"]}: {figures}', flush=True)

    try:
        survey(cases, args.seconds, args.limit, finished)
    except KeyboardInterrupt:
        print(f'\nstopped after {len(rows)} of {len(cases)} measurements', flush=True)
    if rows:
        for path in write(rows, about, args.out):
            print(path)
    if len(rows) < len(cases):
        raise SystemExit(130)


if __name__ == '__main__':
    run_tool(main)
