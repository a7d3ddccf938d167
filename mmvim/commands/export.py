"""What ``tools/export.py`` does: a model, a file, and whether both see the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmvim.engine.quiet import quiet
from mmvim.errors import UserModuleNotFoundError, UserOSError, UserValueError
from mmvim.export import FORMATS, Model, export
from mmvim.export.compare import EXACT, HALF, Comparison, compare
from mmvim.export.graph import MULTIPLE, Size
from mmvim.export.model import Weights, check_sizes, default_form
from mmvim.export.recurrence import FORMS
from mmvim.inference import choose
from mmvim.inference.grid import window_of
from mmvim.inference.runtimes import KERNELS, Exported, openvino_extension

from .demo import height_x_width

#: What each format needs beside PyTorch.
_PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('onnx', 'onnxscript', 'openvino', 'nncf')}


def main(argv: Sequence[str] | None = None) -> int:
    """Export as the command line says (see ``tools/export.py --help``).

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0; 1 if the file computes something else than the model.
    """
    args = _parser().parse_args(argv)
    console = Console(file=sys.stdout, soft_wrap=True, markup=False, highlight=False)
    _check_packages(args.to)
    if args.int8 and (args.half or args.to in ('aoti', 'exported')):
        raise UserValueError('--int8 is for onnx and openvino, without --half')
    if args.half and args.to in ('aoti', 'exported'):
        raise UserValueError(f'--half is for onnx and openvino: {args.to} keeps fp32')
    if args.scan == KERNELS:
        if args.to != 'openvino':
            raise UserValueError(f'--scan {KERNELS} is for --to openvino: {args.to} has {", ".join(FORMS)}')
        openvino_extension()  # says now whether it is built, and not after a minute
    sizes = _open_sizes(args)
    out = _writable(args.out)
    with quiet(), console.status('loading the model'):
        cfg, weights = choose(args.model, args.weights)
        model = Model.load(cfg, weights, Path(args.model).stem, args.part)
    console.print(str(model.report))
    form = args.scan or default_form(model, args.to, sizes)
    size = args.size or (_between(*sizes) if sizes else _default_size(model))
    check_sizes(args.to, form, size, sizes)
    if args.to == 'openvino' and form not in ('plain', KERNELS):
        raise UserValueError(f'--scan {form}: OpenVINO has plain and {KERNELS} only')
    with quiet(), console.status(f'exporting to {args.to}'):
        path = export(model, args.to, out, size, sizes, form, Weights(args.half, args.int8))
    shown = [(size, True), *((other, False) for other in sizes or ())] if sizes else [(size, True)] * 3
    with quiet(), console.status(f'running {path}'):
        images = [model.image(each, seed) for seed, (each, _) in enumerate(shown)]
        found = compare(model.module, Exported(path), images)
    console.print(_table(found, [traced for _, traced in shown], args.to))
    console.print(f'{path}, {_mebibytes(path)} MiB; what it takes and gives is in {path.name}.json')
    if args.part != 'model':
        console.print(f'the file gives {len(model.module.outputs)} maps of the {args.part}; the heads are not in it')
    limits = HALF if args.half else EXACT
    if not args.int8 and not all(one.fits(limits) for one in found):
        console.print(f'error: {path} differs from the model by more than {limits[0]:g} of its largest output')
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Write a model as a file for another runtime, and run both side by side.',
        epilog='Formats, forms of the scan and what runs where: docs/deploy.md.',
    )
    parser.add_argument(
        'model', metavar='MODEL', help='name in the zoo (python tools/zoo.py list), or path of a config'
    )
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS', help='checkpoint (default: the published file)')
    parser.add_argument('--to', required=True, choices=list(FORMATS))
    parser.add_argument('--out', required=True, help='folder for the file')
    parser.add_argument('--part', choices=['model', 'neck', 'backbone'], default='model',
                        help='the whole model, backbone and neck, or the backbone (default: %(default)s)')  # fmt: skip
    parser.add_argument('--size', type=height_x_width, metavar='HxW', help='of images (default: of the config)')
    open_size = f'for images of open size: multiples of {MULTIPLE}'
    parser.add_argument('--min-size', type=height_x_width, metavar='HxW', help=open_size)
    parser.add_argument('--max-size', type=height_x_width, metavar='HxW', help=open_size)
    parser.add_argument('--scan', choices=[*FORMS, KERNELS], help='how scans are written (default: what is best)')
    parser.add_argument('--half', action='store_true', help='store weights as fp16')
    parser.add_argument('--int8', action='store_true', help='int8 linear layers; test the accuracy afterwards')
    return parser


def _check_packages(to: str) -> None:
    missing = [name for name in _PACKAGES.get(to, ()) if find_spec(name) is None]
    if missing:
        raise UserModuleNotFoundError(
            f"--to {to} needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'"
        )


def _open_sizes(args: argparse.Namespace) -> tuple[Size, Size] | None:
    """The smallest and the largest size; None for one size."""
    given = [args.min_size, args.max_size]
    if args.size and any(given):
        raise UserValueError('--size is for one size, --min-size and --max-size are for an open one: take either')
    if any(given) and not all(given):
        raise UserValueError('an open size needs both --min-size and --max-size')
    return tuple(given) if all(given) else None


def _between(low: Size, high: Size) -> Size:
    """The size to trace: inside, and of other sides, so that the graph does not take them for one."""
    rows, columns = (least + (most - least) // 2 // MULTIPLE * MULTIPLE for least, most in zip(low, high, strict=True))
    if rows == columns and columns - MULTIPLE >= low[1]:
        columns -= MULTIPLE
    return rows, columns


def _default_size(model: Model) -> Size:
    if model.module.task == 'classification':
        return 224, 224
    return window_of(model.module.model)[0] if model.module.task == 'segmentation' else (512, 512)


def _writable(folder: str) -> Path:
    """The folder for a file, made if need be."""
    out = Path(folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / '.writable'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserOSError(f'--out {out} cannot be written to ({error.strerror}): name another folder') from error
    return out


def _table(found: Sequence[Comparison], traced: Sequence[bool], to: str) -> Table:
    table = Table(title=f'{to} beside PyTorch')
    for column in ('size', 'traced', 'largest difference', 'same class', 'PyTorch, s', f'{to}, s'):
        table.add_column(column, justify='right')
    for one, was in zip(found, traced, strict=True):
        same = '' if one.agreement is None else f'{100 * one.agreement:.3f} %'
        height, width = one.size
        table.add_row(
            f'{height} x {width}',
            'yes' if was else 'no',
            f'{one.difference:.1e}',
            same,
            *(f'{s:.3f}' for s in one.seconds),
        )
    return table


def _mebibytes(path: Path) -> int:
    files = (
        [path, path.with_suffix('.bin')] if path.suffix == '.xml' else [path, *path.parent.glob(f'{path.name}.data')]
    )
    return round(sum(file.stat().st_size for file in files) / 2**20)
