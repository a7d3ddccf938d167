"""What masked pretraining gains on the miniature, and what an iteration of it costs.

    python benchmarks/pretraining.py gain [--seeds 3] [--out work_dirs/benchmarks]
    python benchmarks/pretraining.py cost [--seconds 20]

`gain` does what `make demo-pretrain` does once for each seed, pretraining included, and goes on where it was
interrupted; the data sets are those of the demo. `cost` times forward, backward and a step of AdamW of SimMIM and of
a classifier with the same backbone on the same images, in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import find_latest_checkpoint
from mmengine.structures import BaseDataElement

import mmvim.models  # noqa: F401  registers
from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.analysis.pretraining_report import miou
from mmvim.engine.cpu import keep_freed_memory
from mmvim.files import write_whole
from mmvim.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs/demo'
VIM = {'type': 'mmvim.Vim', 'arch': 'small', 'pretrain_img_size': 224, 'out_indices': -1, 'final_norm': True}
BACKBONES = {
    'VMamba-T, 4 x 192 x 192': ({'type': 'mmvim.VMamba', 'arch': 'tiny', 'out_indices': 3}, 768, 192),
    'Vim-S, 4 x 224 x 224': (VIM, 384, 224),
}
IMAGES = 4


def train(name: str, work_dir: Path, seed: int, *options: str) -> str:
    """Train a config of the demo, or go on with it; its last checkpoint."""
    command = [sys.executable, ROOT / 'tools/train.py', CONFIGS / f'{name}.py', '--work-dir', work_dir]
    command += ['--resume'] if (work_dir / 'last_checkpoint').exists() else []
    command += ['--cfg-options', f'randomness.seed={seed}', *options]
    with (work_dir.parent / f'{name}.log').open('a') as log:
        subprocess.run([str(word) for word in command], cwd=ROOT, check=True, stdout=log, stderr=log)
    return find_latest_checkpoint(str(work_dir))


def one_seed(seed: int, folder: Path) -> dict[str, float]:
    """mIoU in percent from scratch and after pretraining, and minutes; kept in a file once it is known."""
    result = folder / 'result.json'
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    weights = train('simmim_vmamba_miniature', folder / 'simmim', seed)
    found = {}
    for name, key, options in (
        ('upernet_vmamba_miniature', 'scratch', ()),
        ('upernet_vmamba_miniature_simmim', 'pretrained', (f'model.backbone.init_cfg.checkpoint={weights}',)),
    ):
        found[key] = in_child(miou, CONFIGS / f'{name}.py', train(name, folder / key, seed, *options))
    found['minutes'] = (time.monotonic() - start) / 60
    write_whole(result, json.dumps(found, indent=2) + '\n')
    return found


def gain(seeds: int, out: Path) -> None:
    """A row for each seed, and one for mean and standard deviation."""
    found = [one_seed(seed, out / 'pretraining' / f'seed_{seed}') for seed in range(seeds)]
    rows = [_gain_row(str(seed), *([value] for value in _values(each))) for seed, each in enumerate(found)]
    if seeds > 1:
        rows.append(_gain_row('mean', *zip(*map(_values, found), strict=True)))
    write_tables(out, 'pretraining_gain', 'mIoU with and without masked pretraining', machine(), rows)


def _values(found: dict[str, float]) -> tuple[float, float, float]:
    return found['scratch'], found['pretrained'], found['pretrained'] - found['scratch']


def _gain_row(seed: str, *columns: list[float]) -> dict[str, str]:
    titles = ('from scratch', 'pretrained', 'difference')
    shown = (
        f'{statistics.mean(values):.2f}' + (f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')
        for values in columns
    )
    return {'seed': seed, **dict(zip(titles, shown, strict=True))}


def iteration(model: torch.nn.Module, images: torch.Tensor, samples: Any) -> Callable[[], None]:
    """One step of training, to be called again and again."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(images, samples, mode='loss')['loss'].backward()
        optimizer.step()

    return step


def cost(seconds: float, out: Path) -> None:
    """Milliseconds of one iteration, and the median ratio of neighbours in time."""
    keep_freed_memory()
    torch.manual_seed(0)
    rows = []
    for name, (backbone, channels, size) in BACKBONES.items():
        images = torch.randn(IMAGES, 3, size, size)
        samples = [BaseDataElement(gt_label=torch.tensor(0)) for _ in range(IMAGES)]
        head = {'type': 'mmvim.LinearHead', 'in_channels': channels}
        masked = iteration(MODELS.build({'type': 'mmvim.SimMIM', 'backbone': backbone}), images, None)
        supervised = iteration(
            MODELS.build({'type': 'mmvim.ImageClassifier', 'backbone': backbone, 'head': head}), images, samples
        )
        masked(), supervised()
        times: list[tuple[float, float]] = []
        end = time.monotonic() + seconds
        while len(times) < 3 or time.monotonic() < end:
            times.append((_seconds(masked), _seconds(supervised)))
        best = [min(column) * 1e3 for column in zip(*times, strict=True)]
        ratio = statistics.median(ours / theirs for ours, theirs in times)
        rows.append(
            {
                'backbone': name,
                'SimMIM': f'{best[0]:.0f} ms',
                'classifier': f'{best[1]:.0f} ms',
                'ratio': f'{ratio:.2f}',
            }
        )
    write_tables(out, 'pretraining_cost', 'An iteration of SimMIM and of a classifier', machine(), rows)


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'))
    parts = parser.add_subparsers(required=True)
    gains = parts.add_parser('gain')
    gains.add_argument('--seeds', type=int, default=3)
    gains.set_defaults(run=lambda args: gain(args.seeds, args.out))
    costs = parts.add_parser('cost')
    costs.add_argument('--seconds', type=float, default=20)
    costs.set_defaults(run=lambda args: cost(args.seconds, args.out))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.run(args)


if __name__ == '__main__':
    main()
