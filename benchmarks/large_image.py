"""Segment an image that does not fit into memory: how long it takes, and how much memory.

    python benchmarks/large_image.py [--side 20000] [--out work_dirs/benchmarks]

A TIFF of drawn scenes, in tiles, is made tile by tile; a miniature VMamba with a small UPerNet of 12 classes and random
weights segments it, the way tools/demo.py does. Each part runs in a process of its own, whose whole memory counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.progress import Progress

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.engine.cpu import keep_freed_memory
from mmvim.inference.inferencer import build_inferencer
from mmvim.inference.large import segment_large
from mmvim.inference.grid import count_windows
from mmvim.miniature.scenes import render_scene

ROOT = Path(__file__).resolve().parents[1]
TILE = 512
SCENES = 32  # drawn once each and put anywhere
WINDOW, STRIDE = (512, 512), (448, 448)


def tiles(side: int) -> Iterator[np.ndarray]:
    """The tiles of an image, row by row."""
    rng = np.random.default_rng(0)
    scenes = [render_scene(rng, TILE, TILE).image for _ in range(SCENES)]
    for _ in range((-(-side // TILE)) ** 2):
        yield scenes[rng.integers(SCENES)]


def render(path: Path, side: int) -> tuple[float, int]:
    """Write an image; seconds and peak memory of the process in bytes."""
    start = time.perf_counter()
    tifffile.imwrite(
        path, tiles(side), shape=(side, side, 3), dtype=np.uint8, photometric='rgb', tile=(TILE, TILE),
        compression='zlib', compressionargs={'level': 1}, maxworkers=1,
    )  # fmt: skip
    return time.perf_counter() - start, peak()


def segment(path: Path, out: Path) -> tuple[float, int]:
    """Segment an image; seconds and peak memory of the process in bytes."""
    cfg = miniature()
    weights = path.with_name('weights.pth')
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, weights)
    inferencer = build_inferencer(cfg, str(weights), 'cpu')
    keep_freed_memory()
    with Progress() as progress:
        task = progress.add_task('windows', total=None)
        start = time.perf_counter()
        segment_large(
            inferencer, path, out, WINDOW, STRIDE,
            begin=lambda total: progress.update(task, total=total),
            advance=lambda steps: progress.advance(task, steps),
        )  # fmt: skip
        return time.perf_counter() - start, peak()


def miniature() -> Config:
    """A small VMamba in a small UPerNet."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'upernet_vim_t_miniature.py')
    widths = [24, 48, 96, 192]
    cfg.model.backbone = {'type': 'mmvim.VMamba', 'arch': {'embed_dims': widths[0], 'depths': (1, 1, 2, 1)}}
    cfg.model.neck = cfg.model.auxiliary_head = None
    cfg.model.decode_head.update(in_channels=widths, channels=32)
    return cfg


def peak() -> int:
    """The most memory that this process has held, in bytes; Linux only."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def check(labels: Path, side: int, classes: int) -> None:
    """See that a label map is whole, read tile by tile."""
    with tifffile.TiffFile(labels) as file:
        page = file.pages.first
        if page.shape != (side, side) or page.dtype != np.uint8:
            raise RuntimeError(f'{labels} has shape {page.shape} and {page.dtype}')
        found = {int(label) for data, *_ in page.segments(maxworkers=1) for label in np.unique(data)}
    if not found <= set(range(classes)) or len(found) < 2:
        raise RuntimeError(f'{labels} has the labels {sorted(found)}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--side', type=int, default=20_000, help='of the square image, in pixels')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    about = machine()
    with TemporaryDirectory() as folder:
        image, out = Path(folder, 'image.tif'), Path(folder, 'image')
        drawn = in_child(render, image, args.side)
        found = in_child(segment, image, out)
        check(out.with_name('image_labels.tif'), args.side, 12)
        about['image'] = f'{args.side} x {args.side} pixels, {image.stat().st_size / 1e9:.2f} GB as a tiled TIFF'
    windows = count_windows(args.side, args.side, WINDOW, STRIDE)
    about['windows'] = f'{windows} of {WINDOW[0]} x {WINDOW[1]}, a step of {STRIDE[0]}'
    rows = [
        {'part': part, 'minutes': f'{seconds / 60:.1f}', 'peak memory of the process, GB': f'{memory / 1e9:.2f}'}
        for part, (seconds, memory) in (('drawing and writing the image', drawn), ('segmenting it', found))
    ]
    write_tables(args.out, f'large_image_{args.side}', 'Segmenting a large image', about, rows)


if __name__ == '__main__':
    main()
