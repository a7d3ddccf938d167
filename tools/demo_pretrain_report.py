"""Say what pretraining was worth in `make demo-pretrain`: a table of mIoU, and a picture of reconstructions.

Takes the newest checkpoints in work_dirs of the three configs simmim_vmamba_miniature, upernet_vmamba_miniature_simmim
and upernet_vmamba_miniature.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.runner import find_latest_checkpoint
from rich.console import Console
from rich.table import Table

from mmvim.analysis.measure import in_child
from mmvim.analysis.pretraining_report import miou
from mmvim.analysis.reconstruction import draw, load_simmim, read_images, reconstruct
from mmvim.commands import run_tool
from mmvim.errors import UserFileNotFoundError
from mmvim.files import write_whole
from mmvim.preflight.config import load_config

CONFIGS = Path('configs/demo')
SIMMIM = 'simmim_vmamba_miniature'
PRETRAINED, SCRATCH = 'upernet_vmamba_miniature_simmim', 'upernet_vmamba_miniature'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dirs', type=Path, default=Path('work_dirs'), help='where the runs are')
    parser.add_argument('--images', type=Path, default=Path('data/unlabelled_miniature/val'), help='to reconstruct')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demo_pretrain'), help='folder for report.json and the picture'
    )
    args = parser.parse_args()
    checkpoints = {name: newest(args.work_dirs / name) for name in (SIMMIM, PRETRAINED, SCRATCH)}
    console = Console()
    with console.status('measuring mIoU of both segmentors'):
        found = {name: in_child(miou, CONFIGS / f'{name}.py', checkpoints[name]) for name in (SCRATCH, PRETRAINED)}
    model = load_simmim(load_config(CONFIGS / f'{SIMMIM}.py'), checkpoints[SIMMIM])
    args.out.mkdir(parents=True, exist_ok=True)
    picture = args.out / 'reconstruction.png'
    draw(reconstruct(model, read_images([args.images], 4))).savefig(picture, dpi=100)
    write_whole(args.out / 'report.json', json.dumps(found, indent=2) + '\n')
    console.print(in_table(found))
    for path in (args.out / 'report.json', picture):
        console.print(str(path), soft_wrap=True)


def newest(work_dir: Path) -> str:
    """The newest checkpoint of a run.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not (work_dir / 'last_checkpoint').is_file():
        raise UserFileNotFoundError(
            f'{work_dir} has no checkpoint: make demo-pretrain, or train configs/demo/{work_dir.name}.py'
        )
    return find_latest_checkpoint(str(work_dir))


def in_table(miou: dict[str, float]) -> Table:
    """mIoU in percent, and the difference in points."""
    table = Table('UPerNet and a small VMamba, trained on 100 labelled scenes', title='mIoU on held-out scenes, %')
    table.add_column('mIoU', justify='right')
    table.add_row('from scratch', f'{miou[SCRATCH]:.2f}')
    table.add_row('its backbone pretrained on 4,000 scenes without labels', f'{miou[PRETRAINED]:.2f}', style='bold')
    table.add_row('difference in points', f'{miou[PRETRAINED] - miou[SCRATCH]:+.2f}')
    return table


if __name__ == '__main__':
    run_tool(main)
