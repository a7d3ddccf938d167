"""Draw what a backbone in masked pretraining makes of images that it sees in part.

    python tools/analysis/reconstruction.py configs/pretrain/simmim_vmamba_t_100e_192.py CHECKPOINT photos --size 192

IMAGES are files or folders. Better ones that training did not have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmvim.analysis.reconstruction import draw, load_simmim, read_images, reconstruct
from mmvim.commands import run_tool
from mmvim.preflight.config import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint')
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGES')
    parser.add_argument('--count', type=int, default=4, help='images at most, default %(default)s')
    parser.add_argument('--size', type=int, help='shorter side in pixels (default: the images as they are)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/reconstruction'), help='folder for the picture')
    args = parser.parse_args()
    if args.count < 1 or (args.size is not None and args.size < 1):
        parser.error('--count and --size are numbers of at least 1')
    model = load_simmim(load_config(args.config), args.checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    picture = args.out / 'reconstruction.png'
    draw(reconstruct(model, read_images(args.images, args.count, args.size))).savefig(picture, dpi=100)
    print(picture)


if __name__ == '__main__':
    run_tool(main)
