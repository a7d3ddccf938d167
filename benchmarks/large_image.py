"""Segment images that do not fit into memory: how long it takes, what on, and how much memory.

    python benchmarks/large_image.py map [--side 20000]             # a GeoTIFF
    python benchmarks/large_image.py slide [--size 30000x40000]     # at a quarter, with and without its background
    python benchmarks/large_image.py processes [--side 8000]        # one and two, by torchrun, with one thread each

Images of drawn scenes are made tile by tile; a miniature VMamba with a small UPerNet of 12 classes and random weights
segments them, the way tools/demo.py does. Each part runs in a process of its own, whose whole memory counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import tifffile
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.progress import Progress

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.commands.demo import height_x_width
from mmvim.engine.cpu import keep_freed_memory
from mmvim.inference.grid import Size, count_windows
from mmvim.inference.inferencer import build_inferencer
from mmvim.inference.large import segment_large
from mmvim.inference.reading import Reading
from mmvim.miniature.scenes import render_scene

ROOT = Path(__file__).resolve().parents[1]
TILE = 512
SCENES = 32  # drawn once each and put anywhere
#: What makes a TIFF a map: half a metre a pixel, its corner, and UTM zone 32 north.
GEOTIFF = (
    (33550, 'd', 3, (0.5, 0.5, 0.0), True),
    (33922, 'd', 6, (0.0, 0.0, 0.0, 500_000.0, 5_500_000.0, 0.0), True),
    (34735, 'H', 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632), True),
)
LAYOUT = {'photometric': 'rgb', 'tile': (TILE, TILE), 'compression': 'zlib', 'compressionargs': {'level': 1}}


def scenes() -> list[np.ndarray]:
    """Some tiles."""
    rng = np.random.default_rng(0)
    return [render_scene(rng, TILE, TILE).image for _ in range(SCENES)]


def draw_map(path: Path, side: int) -> None:
    """Write a GeoTIFF."""
    rng, drawn = np.random.default_rng(0), scenes()
    tiles = (drawn[rng.integers(SCENES)] for _ in range((-(-side // TILE)) ** 2))
    tifffile.imwrite(
        path, tiles, shape=(side, side, 3), dtype=np.uint8, extratags=GEOTIFF, maxworkers=1, metadata=None, **LAYOUT
    )


def draw_slide(path: Path, size: Size, background: float = 0.7) -> None:
    """Write an Aperio file of three levels: one ellipse of scenes on glass."""
    height, width = size
    about = f'Aperio Image Library v1\r\n{width}x{height} [0,0 {width}x{height}] ({TILE}x{TILE})|MPP = 0.25'
    drawn = scenes()
    reach = (4 * (1 - background) / np.pi) ** 0.5  # of its axes, in those of the slide
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step in (1, 4, 16):
            shape = -(-height // step), -(-width // step), 3
            tiles = slide_tiles(shape, reach, drawn)
            file.write(tiles, shape=shape, dtype=np.uint8, description=about, metadata=None, maxworkers=1, **LAYOUT)


def slide_tiles(shape: tuple[int, int, int], reach: float, drawn: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The tiles of one level, row by row."""
    height, width, _ = shape
    glass = np.full((TILE, TILE, 3), 242, np.uint8)
    for number, top in enumerate(range(0, height, TILE)):
        for left in range(0, width, TILE):
            y, x = np.ogrid[top : top + TILE, left : left + TILE]
            inside = ((2 * y / height - 1) / reach) ** 2 + ((2 * x / width - 1) / reach) ** 2 < 1
            yield np.where(inside[..., None], drawn[(number + left // TILE) % SCENES], glass)


def segment(path: Path, out: Path, window: Size, reading: Reading) -> dict[str, Any]:
    """Segment an image: seconds, what they were spent on, and the peak memory of the process."""
    cfg, weights = write_model(path.parent)
    inferencer = build_inferencer(Config.fromfile(cfg), str(weights), 'cpu')
    keep_freed_memory()
    notes: list[str] = []
    with Progress() as progress:
        task = progress.add_task('windows', total=None)
        start, worked = time.perf_counter(), time.process_time()
        segment_large(
            inferencer, path, out, window, stride_of(window),
            begin=lambda total: progress.update(task, total=total),
            advance=lambda steps: progress.advance(task, steps),
            reading=reading, note=notes.append,
        )  # fmt: skip
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    return {
        'seconds': f'{seconds:.0f}',
        'of the processor': f'{worked:.1f}',
        'share': notes[-1].partition(' s: ')[2],
        'peak memory of the process, GB': f'{peak() / 1e9:.2f}',
    }


def stride_of(window: Size) -> Size:
    """Seven eighths of it."""
    return tuple(side * 7 // 8 for side in window)


def write_model(folder: Path) -> tuple[Path, Path]:
    """The config of a small VMamba in a small UPerNet, and random weights."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'upernet_vim_t_miniature.py')
    widths = [24, 48, 96, 192]
    cfg.model.backbone = {'type': 'mmvim.VMamba', 'arch': {'embed_dims': widths[0], 'depths': (1, 1, 2, 1)}}
    cfg.model.neck = cfg.model.auxiliary_head = None
    cfg.model.decode_head.update(in_channels=widths, channels=32)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, folder / 'segmentor.pth')
    cfg.dump(folder / 'segmentor.py')
    return folder / 'segmentor.py', folder / 'segmentor.pth'


def peak() -> int:
    """The most memory that this process has held, in bytes; Linux only."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def check(labels: Path, size: Size, allowed: set[int]) -> None:
    """See that a label map is whole, read row by row of its tiles."""
    with rasterio.open(labels) as file:
        if file.shape != size or not file.overviews(1):
            raise RuntimeError(f'{labels} has shape {file.shape} and overviews {file.overviews(1)}')
        found = {int(label) for _, window in file.block_windows(1) for label in np.unique(file.read(1, window=window))}
    if not found <= allowed or len(found) < 2:
        raise RuntimeError(f'{labels} has the labels {sorted(found)}')


def measure_map(folder: Path, side: int) -> list[dict[str, Any]]:
    """One image of a map."""
    in_child(draw_map, folder / 'map.tif', side)
    row = in_child(segment, folder / 'map.tif', folder / 'map', (512, 512), Reading())
    check(folder / 'map_labels.tif', (side, side), set(range(12)))
    windows = count_windows(side, side, (512, 512), (448, 448))
    size = (folder / 'map.tif').stat().st_size / 1e9
    return [{'image': f'{side} x {side} pixels, {size:.2f} GB, {windows} windows of 512', **row}]


def measure_slide(folder: Path, size: Size) -> list[dict[str, Any]]:
    """One slide at a quarter of its resolution, with and without its background."""
    in_child(draw_slide, folder / 'slide.svs', size)
    rows = []
    for text, background in (('tissue', False), ('all of it', True)):
        row = in_child(
            segment, folder / 'slide.svs', folder / 'slide', (256, 256), Reading(level=1, background=background)
        )
        rows.append({'slide': f'{size[1]} x {size[0]} pixels at a quarter, {text}', **row})
        check(folder / 'slide_labels.ome.tif', (-(-size[0] // 4), -(-size[1] // 4)), {*range(12), 255})
    return rows


def measure_processes(folder: Path, side: int) -> list[dict[str, Any]]:
    """The command with one and with two processes, and whether the files are the same."""
    draw_map(folder / 'map.tif', side)
    cfg, weights = write_model(folder)
    rows = []
    for count in (1, 2):
        out = folder / f'by_{count}'
        command = [
            sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(count),
            str(ROOT / 'tools' / 'demo.py'), folder / 'map.tif', cfg, weights, '--window', '512', '--stride', '448',
            '--launcher', 'pytorch', '--device', 'cpu', '--out', out,
        ]  # fmt: skip
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        digest = hashlib.sha256((out / 'map_labels.tif').read_bytes()).hexdigest()[:12]
        seconds, share = re.search(r'map\.tif: (\d+) s: (.*)', printed).groups()
        rows.append({'processes of one thread': count, 'seconds': seconds, 'share': share, 'SHA-256 begins': digest})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['map', 'slide', 'processes'])
    parser.add_argument('--side', type=int, help='of a square map, in pixels (default: 20000; 8000 for processes)')
    parser.add_argument('--size', type=height_x_width, default=(30_000, 40_000), metavar='HxW', help='of a slide')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    about = machine()
    with TemporaryDirectory() as folder:
        if args.what == 'map':
            rows = measure_map(Path(folder), args.side or 20_000)
        elif args.what == 'slide':
            rows = measure_slide(Path(folder), args.size)
        else:
            rows = measure_processes(Path(folder), args.side or 8_000)
    write_tables(args.out, f'large_image_{args.what}', 'Segmenting a large image', about, rows)


if __name__ == '__main__':
    main()
