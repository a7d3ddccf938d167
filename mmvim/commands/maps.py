"""What ``tools/analysis/maps.py`` does: maps of what goes on in a model, as pictures and arrays."""

import argparse
import io
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from rich.console import Console

from mmvim.analysis.maps import activation, grad_cam, scan_map, see
from mmvim.analysis.maps.draw import draw_map, draw_scan
from mmvim.analysis.maps.watch import expect_backbone, stage_index
from mmvim.engine.quiet import quiet
from mmvim.errors import UserOSError, UserValueError
from mmvim.files import replacing
from mmvim.inference.choose import choose
from mmvim.inference.classifier import build_classifier
from mmvim.inference.images import read_image
from mmvim.inference.inferencer import build_inferencer
from mmvim.inference.runtimes import is_exported
from mmvim.names import hint

from .demo import check_device

KINDS = ('gradcam', 'activation', 'scan')


def main(argv: Sequence[str] | None = None) -> int:
    """Draw maps; see ``tools/analysis/maps.py --help``.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0.
    """
    args = _parser().parse_args(argv)
    console = Console(file=sys.stdout, soft_wrap=True, markup=False, highlight=False)
    image = read_image(args.image)
    check_device(args.device)
    out = _folder(args.out)
    if is_exported(args.model):
        raise UserValueError(f'{args.model} was exported, its stages cannot be seen: name its config and checkpoint')
    with quiet(), redirect_stdout(io.StringIO()), console.status('loading the model'):
        cfg, weights = choose(args.model, args.weights)
        classifies = cfg.model.type == 'mmvim.ImageClassifier'
        found = (build_classifier if classifies else build_inferencer)(cfg, weights, args.device)
    console.print(str(found.report))
    model = found.model
    names = (getattr(model, 'dataset_meta', None) or {}).get('classes', ())
    with quiet():
        view = see(model, found.pipeline, image)
    place = view.place(args.at) if args.at else None
    stage = stage_index(expect_backbone(model.backbone), args.stage)
    where = f'{type(model.backbone).__name__}, stage {stage}'
    if args.kind == 'scan':
        at = args.at or ((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
        maps = scan_map(model.backbone, view.inputs, view.fraction(at), stage, args.block)
        title = f'{where}: what the tokens of the scan give to that at row {at[0]:g}, column {at[1]:g}'
        figure = draw_scan(view, maps, view.place(at), title)
        arrays = {'walks': maps.walks, 'titles': np.array(maps.titles), 'token': np.array(maps.token)}
    elif args.kind == 'activation':
        values = activation(model.backbone, view.inputs, stage)
        figure, arrays = draw_map(view, values, f'{where}: size of the activations', place), {'map': values}
    else:
        values, label, said = grad_cam(model, view, stage, place, _label(args.label, names))
        said = f'{names[label] if names else f"class {label}"}, {said}'
        console.print(f'Grad-CAM of {said}')
        figure, arrays = draw_map(view, values, f'{where}: Grad-CAM of\n{said}', place), {'map': values}
    name = f'{Path(args.image).stem}_{args.kind}_{stage}'  # may have dots
    drawn, kept = out / f'{name}.png', out / f'{name}.npz'
    with replacing(drawn) as draft:
        figure.savefig(draft, dpi=120)
    with replacing(kept) as draft:
        np.savez_compressed(draft, picture=view.picture, **arrays)
    for path in (drawn, kept):
        console.print(str(path))
    return 0


def _folder(out: str) -> Path:
    """The folder for the files, made before a model is loaded for nothing."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserOSError(f'{out} cannot be made ({error.strerror}): name another folder with --out') from error
    return Path(out)


def _label(asked: str | None, names: Sequence[str]) -> int | None:
    """The number of a class, from it or its name."""
    if asked is None or asked.isdecimal():
        return None if asked is None else int(asked)
    if asked not in names:
        raise UserValueError(f'there is no class {asked!r}{hint(asked, names)}: give its name or its number')
    return list(names).index(asked)


def row_and_column(text: str) -> tuple[float, float]:
    """Read ``120,80`` as (120.0, 80.0)."""
    row, column = (float(part) for part in text.split(','))
    if not (math.isfinite(row) and math.isfinite(column)):
        raise ValueError(text)
    return row, column


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Draw what goes on in a model: Grad-CAM, activations, or what its scans carry from token to token.',
        epilog='What the pictures show: docs/maps.md.',
    )
    parser.add_argument('image', metavar='IMAGE')
    parser.add_argument(
        'model', metavar='MODEL', help='name in the zoo (python tools/zoo.py list), or path of a config'
    )
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS', help='checkpoint (default: the published file)')
    parser.add_argument('--kind', choices=KINDS, default='gradcam', help='default: %(default)s')
    parser.add_argument(
        '--stage', type=int, default=-1, help='its number, or that of the block of a plain backbone (default: the last)'
    )
    parser.add_argument('--at', type=row_and_column, metavar='ROW,COLUMN', help='pixel of the image')
    parser.add_argument('--class', dest='label', metavar='NAME|NUMBER', help='for gradcam (default: what is predicted)')
    parser.add_argument('--block', type=int, default=-1, help='for scan: which scan of the stage (default: the last)')
    parser.add_argument('--out', default='outputs', help='folder for picture and arrays (default: %(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    return parser
