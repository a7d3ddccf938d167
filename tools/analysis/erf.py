"""Draw effective receptive fields of models beside those of DeiT, Swin and ResNet, as one picture.

    python tools/analysis/erf.py vmamba_tiny vim_tiny
    python tools/analysis/erf.py vmamba_tiny=weights/vssm1_tiny_0230s_ckpt_epoch_264.pth swin_tiny=weights/swin_tiny.pth
    python tools/analysis/erf.py mask_rcnn_vmamba_t_coco --weights weights --images photos

MODEL is the name of a backbone, a model of the zoo (python tools/zoo.py list) or a config, each also with =FILE: then
the field with these weights is drawn too, below the one with random weights. Official files of DeiT, Swin and, in
torchvision's names, ResNet are read as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from mmvim.analysis.erf import SHARES, Field, area, draw, read_images, receptive_field, rendered
from mmvim.analysis.models import NAMED
from mmvim.analysis.weights import backbone, load
from mmvim.commands import run_tool
from mmvim.files import write_whole

RANDOM, GIVEN = 'random weights', 'with weights'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='MODEL[=FILE]', help=f'backbones: {", ".join(NAMED)}')
    parser.add_argument('--beside', nargs='*', default=['deit_tiny', 'swin_tiny', 'resnet_50'], metavar='MODEL[=FILE]')
    parser.add_argument('--weights', type=Path, help="folder with published files, for the zoo's models")
    parser.add_argument('--images', type=Path, help='folder of images (default: drawn scenes)')
    parser.add_argument('--count', type=int, default=8, help='images at most')
    parser.add_argument('--size', type=int, default=512, help='side of the images in pixels')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/erf'), help='folder for picture and numbers')
    args = parser.parse_args()
    if args.count < 1 or args.size < 32:
        parser.error('at least one image of at least 32 pixels a side is needed')
    problems: list[str] = []
    if args.images:
        paths = sorted(path for path in args.images.iterdir() if path.is_file())[: args.count]
        images, problems = read_images(paths, args.size)
        if not images:
            parser.error(f'{args.images} has no image that OpenCV reads')
    else:
        images = list(rendered(args.count, args.size))
    rows: dict[str, dict[str, Field]] = {RANDOM: {}, GIVEN: {}}
    for asked in (*args.models, *args.beside):
        name, _, file = asked.partition('=')
        torch.manual_seed(0)
        title, model, published = backbone(name, args.size)
        rows[RANDOM][title] = receptive_field(model, images)
        print(f'{title}, {RANDOM}: {_numbers(rows[RANDOM][title])}', flush=True)
        path = Path(file) if file else args.weights / published if args.weights and published else None
        if path is None:
            continue
        try:
            load(model, path)
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f'{title}: {error}')
            continue
        rows[GIVEN][title] = receptive_field(model, images)
        print(f'{title}, {path.name}: {_numbers(rows[GIVEN][title])}', flush=True)
    rows = {kind: row for kind, row in rows.items() if row}
    found = {kind: {name: _areas(field) for name, field in row.items()} for kind, row in rows.items()}
    summary = {'size': args.size, 'images': len(images), 'part of the area that holds a share': found}
    write_whole(args.out / 'erf.json', json.dumps(summary, indent=2) + '\n')
    draw(rows).savefig(args.out / 'erf.png', dpi=120)
    print(args.out / 'erf.png')
    for problem in problems:
        print(f'left out: {problem}', file=sys.stderr)
    if problems:
        raise SystemExit(1)


def _areas(field: Field) -> dict[str, float]:
    return {f'{100 * share:.0f} %': round(area(field, share), 5) for share in SHARES}


def _numbers(field: Field) -> str:
    return ', '.join(f'{share} in {100 * part:.1f} % of the area' for share, part in _areas(field).items())


if __name__ == '__main__':
    run_tool(main)
