"""Say what the model of `make demo` has learned: a table of mIoU, and pictures of image, truth and prediction.

python tools/demo_report.py configs/demo/upernet_vim_t_miniature.py work_dirs/upernet_vim_t_miniature/iter_200.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmvim.analysis.demo_report import report
from mmvim.engine.launch import run_tool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--out', help='folder for the pictures and report.json (default: report/ beside the checkpoint)'
    )
    args = parser.parse_args()
    out = Path(args.out) if args.out else Path(args.checkpoint).parent / 'report'

    console = Console()
    with console.status('measuring mIoU: untrained model, single pixels, trained model'):
        miou, files = report(args.config, args.checkpoint, out)
    table = Table('on held-out scenes', title='mIoU, %')
    table.add_column('mIoU', justify='right')
    table.add_column('the trained model has', justify='right')
    for name, label in (
        ('untrained', 'the same model, untrained'),
        ('per_pixel', 'a classifier on colour and position of single pixels'),
    ):
        table.add_row(label, f'{miou[name]:.2f}', f'{miou["trained"] / miou[name]:.1f} times this')
    table.add_row('the trained model', f'{miou["trained"]:.2f}', '', style='bold')
    console.print(table)
    for path in files:
        console.print(str(path), soft_wrap=True)


if __name__ == '__main__':
    run_tool(main)
