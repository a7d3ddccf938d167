"""Check an annotation file of the size of COCO's train2017: how long it takes, and how much memory.

    python benchmarks/data_check.py [--images 118000] [--annotations 860000] [--out work_dirs/benchmarks]

The file has as many images, boxes and polygons as COCO's, with made-up coordinates; all images are one small JPEG under
many names. Each part runs in a process of its own, whose whole memory counts. Times of the processor are given as well,
which a busy machine lengthens less.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from mmengine.config import Config

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.miniature.categories import COCO_CATEGORIES
from mmvim.preflight.data.checker import no_progress
from mmvim.preflight.data.coco.checker import CocoChecker
from mmvim.preflight.data.parts import checkers_of
from mmvim.preflight.data.tally import Tally

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 640, 480
LINKS = 10_000  # names that a file system gives one file
POINTS = 23  # of a polygon: about as many as make COCO's file as long as it is


def make(folder: Path, images: int, annotations: int) -> None:
    """Write a data set into a folder."""
    (folder / 'img').mkdir()
    jpeg = cv2.imencode('.jpg', np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))[1].tobytes()
    names = [f'{number:012d}.jpg' for number in range(images)]
    for number, name in enumerate(names):
        if number % LINKS == 0:
            first = folder / f'{number}.jpg'
            first.write_bytes(jpeg)
        os.link(first, folder / 'img' / name)
    head = {
        'images': [
            {'id': number, 'file_name': name, 'height': HEIGHT, 'width': WIDTH} for number, name in enumerate(names)
        ],
        'categories': COCO_CATEGORIES,
    }
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    with (folder / 'instances.json').open('w') as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number in range(annotations):
            width, height = rng.uniform(8, 200, 2)
            x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
            radius = rng.uniform(0.7, 1, POINTS) / 2
            columns, rows = x + width * (0.5 + radius * np.cos(angles)), y + height * (0.5 + radius * np.sin(angles))
            annotation = {
                'segmentation': [np.stack([columns, rows], 1).round(2).ravel().tolist()],
                'area': round(width * height / 2, 4),
                'iscrowd': 0,
                'image_id': int(rng.integers(images)),
                'bbox': [round(float(value), 2) for value in (x, y, width, height)],
                'category_id': COCO_CATEGORIES[int(rng.integers(80))]['id'],
                'id': number + 1,
            }
            file.write((', ' if number else '') + json.dumps(annotation))
        file.write(']}')


def check(folder: Path, part: str) -> tuple[float, float, int]:
    """Check; seconds, seconds of the processor, peak memory of the process in bytes."""
    cfg = Config.fromfile(ROOT / 'configs' / 'vim' / 'mask_rcnn_vim_t_coco.py')
    entry = cfg.train_dataloader.dataset
    entry.update(data_root=str(folder), ann_file='instances.json', data_prefix={'img': 'img/'})
    checker = next(checkers_of(cfg, ['train'], Tally()))
    if not isinstance(checker, CocoChecker):
        raise TypeError(f'checked by {type(checker).__name__}')
    start, used = time.perf_counter(), time.process_time()
    if part == 'reading alone':
        json.loads(Path(checker.dataset.ann_file).read_text())
        found = Tally()
    elif part == 'quick part':
        found = checker.quick(time.monotonic() + 10)
    else:
        found, _ = checker.full(1, no_progress)
    if list(found):
        raise RuntimeError(f'there is nothing to be found, and found were {[kind.what for kind, _ in found]}')
    return time.perf_counter() - start, time.process_time() - used, peak()


def peak() -> int:
    """The most memory that this process has held, in bytes; Linux only."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--annotations', type=int, default=860_000)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    about = machine()
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.images, args.annotations)
        about['file'] = (
            f'{args.images} images, {args.annotations} annotations, '
            f'{(folder / "instances.json").stat().st_size / 1e6:.0f} MB'
        )
        for part in ('reading alone', 'quick part', 'all annotations'):
            seconds, processor, memory = in_child(check, folder, part)
            rows.append(
                {
                    'part': part,
                    'seconds': f'{seconds:.1f}',
                    'seconds of the processor': f'{processor:.1f}',
                    'peak memory of the process, GB': f'{memory / 1e9:.2f}',
                }
            )
    write_tables(args.out, 'data_check', "Checking annotations of the size of COCO's train2017", about, rows)


if __name__ == '__main__':
    main()
