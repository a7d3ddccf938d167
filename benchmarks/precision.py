"""What --amp costs in accuracy: mIoU and AP in fp32 and in mixed precision, side by side.

    python benchmarks/precision.py [--out work_dirs/benchmarks] [CONFIG CHECKPOINT ...]

Without arguments the two models that `make demo` and `make demo-det` train. Each is tested twice by tools/test.py, in a
process of its own; the exit code is 1 if a number of the two differs by more than 0.3 points.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmvim.analysis.measure import machine, write_tables
from mmvim.zoo.process import run_test

ROOT = Path(__file__).resolve().parents[1]
DEMOS = ('upernet_vim_t_miniature', 'mask_rcnn_vmamba_miniature')
#: What is compared: the name in the metrics, and what makes percent of it.
NUMBERS = {'mIoU': 1, 'coco/bbox_mAP': 100, 'coco/segm_mAP': 100, 'accuracy/top1': 1}
MOST = 0.3


def measure(config: Path, weights: Path, amp: bool) -> dict:
    """Metrics and speed of one test."""
    cfg = Config.fromfile(config)
    with TemporaryDirectory() as folder:
        out = Path(folder, 'measured.json')
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), {'type': 'mmvim.MeasureHook', 'out': str(out)}]
        cfg.custom_imports = {'imports': ['mmvim', 'mmvim.zoo.measure'], 'allow_failed_imports': False}
        cfg.dump(Path(folder, config.name))
        run_test(Path(folder, config.name), weights, Path(folder), amp=amp)
        return json.loads(out.read_text())


def rows(config: Path, weights: Path) -> list[dict]:
    """A line for each number of a model."""
    plain, mixed = (measure(config, weights, amp) for amp in (False, True))
    return [
        {
            'model': config.stem,
            'metric': name.rpartition('/')[2],
            'fp32': f'{plain["metrics"][name] * factor:.2f}',
            '--amp': f'{mixed["metrics"][name] * factor:.2f}',
            'difference': round((mixed['metrics'][name] - plain['metrics'][name]) * factor, 3),
            'images': plain['images'],
            'images/s': f'{plain["images_per_second"]:.1f} / {mixed["images_per_second"]:.1f}',
        }
        for name, factor in NUMBERS.items()
        if name in plain['metrics']
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='*', type=Path, metavar='CONFIG CHECKPOINT')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error('give a checkpoint behind every config')
    models = list(zip(args.models[::2], args.models[1::2], strict=True)) or [
        (ROOT / f'configs/demo/{name}.py', Path(find_latest_checkpoint(f'work_dirs/{name}'))) for name in DEMOS
    ]
    table = [row for config, weights in models for row in rows(config, weights)]
    write_tables(args.out, 'precision', 'Accuracy in fp32 and in mixed precision', machine(), table)
    return int(any(abs(row['difference']) > MOST for row in table))


if __name__ == '__main__':
    sys.exit(main())
