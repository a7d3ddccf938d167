"""Say what the model of `make demo-det` has learned: a table of AP50, and pictures of truth and prediction.

python tools/demo_det_report.py configs/demo/mask_rcnn_vmamba_miniature.py CHECKPOINT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmvim.analysis.detection_report import report
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
    with console.status('measuring AP50: untrained model, trained model'):
        found, files = report(args.config, args.checkpoint, out)
    table = Table('on held-out scenes', title='AP at an overlap of 0.5')
    for name in ('box', 'mask'):
        table.add_column(name, justify='right')
    for row, label in (('untrained', 'the same model, untrained'), ('trained', 'the trained model')):
        table.add_row(label, *(f'{found[row][name]:.3f}' for name in ('box', 'mask')))
    console.print(table)
    for path in files:
        console.print(str(path), soft_wrap=True)


if __name__ == '__main__':
    run_tool(main)
