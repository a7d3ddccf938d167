"""What ``tools/zoo.py`` does: list, check, evaluate and document the models of the zoo."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmvim.catalogue import MODELS, select
from mmvim.catalogue.records import DATASETS, HEADLINES, Model
from mmvim.errors import UserValueError
from mmvim.paths import ROOT
from mmvim.zoo.documents import sources, write_documents
from mmvim.zoo.table import Job, all_jobs
from mmvim.zoo.weights import Weights


def main(argv: Sequence[str] | None = None, zoo: Sequence[Model] = MODELS) -> int:
    """Run a command of ``tools/zoo.py``; see ``--help``.

    Args:
        argv: Arguments without the program's name; those of the process by default.
        zoo: The models.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description='The model zoo: what there is, and whether it holds.')
    commands = parser.add_subparsers(dest='command', required=True)
    for name, add in _COMMANDS.items():
        add(commands.add_parser(name, help=add.__doc__, description=add.__doc__))
    args = parser.parse_args(argv)
    return args.run(args, zoo)


def _add_list(parser: argparse.ArgumentParser) -> None:
    """every model with its published numbers, their source, its config and its weights"""
    _add_selection(parser)
    parser.add_argument('--json', action='store_true', help='for programs')
    parser.set_defaults(run=_list)


def _add_write(parser: argparse.ArgumentParser) -> None:
    """write metafiles, model index and docs/model_zoo.md from the records"""
    parser.set_defaults(run=_write)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--task', choices=list(DATASETS), help='of one task only')
    parser.add_argument(
        '--models', nargs='+', default=[], metavar='GLOB', help="by name or backbone: upernet_vim_t_ade20k, 'vmamba_t*'"
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """evaluate published weights and write a table: published, measured, difference, speed, memory"""
    _add_selection(parser)
    parser.add_argument('--weights', default='weights', metavar='DIR', help='has the files, and takes downloads')
    parser.add_argument('--data', default='data', metavar='DIR', help='has ade/ADEChallengeData2016, coco, imagenet')
    parser.add_argument('--out', default='work_dirs/zoo', metavar='DIR', help='takes results; run again to go on there')
    parser.add_argument('--no-download', action='store_true', help='take only files that are there')
    parser.add_argument('--tta', action='store_true', help='evaluate what was published with test-time augmentation')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='in mixed precision: bf16 on a CPU, fp16 on a GPU; kept beside results in fp32',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none', help='pytorch: several GPUs')
    parser.add_argument('--gpus', type=int, default=1, metavar='N', help='with --launcher pytorch')
    parser.add_argument('--workers', type=int, metavar='N', help='processes that load images; as the configs have it')
    parser.set_defaults(run=_evaluate)


def _add_check(parser: argparse.ArgumentParser) -> None:
    """build every model, load a file in the layout of its published one, run it once on a small image"""
    _add_selection(parser)
    parser.set_defaults(run=_check)


_COMMANDS = {'list': _add_list, 'evaluate': _add_evaluate, 'check': _add_check, 'write': _add_write}


def _list(args: argparse.Namespace, zoo: Sequence[Model]) -> int:
    models = select(zoo, args.task, args.models)
    if args.json:
        print(json.dumps([as_dict(model) for model in models], indent=2))
        return 0
    # Piped, a table is as wide as it needs: shortened names would be of no use to anybody.
    console = Console(width=None if sys.stdout.isatty() else 250)
    for task in dict.fromkeys(model.task for model in models):
        console.print(_table([model for model in models if model.task == task]))
    console.print('Published numbers; none of them was measured here. Operations count a multiply-add as one.')
    return 0


def as_dict(model: Model) -> dict:
    """A record as plain data."""
    return {**asdict(model), 'dataset': model.dataset, 'test_batch_size': model.test_batch_size}


def _table(models: Sequence[Model]) -> Table:
    table = Table(title=models[0].dataset, title_justify='left')
    for name in ('model', 'parameters', 'GFLOPs', 'published', 'source', 'official file', 'config'):
        table.add_column(name, overflow='fold', justify='right' if name in ('parameters', 'GFLOPs') else 'left')
    for model in models:
        published = (f'{number.metric} {number.value:.1f}' for number in model.published if number.metric in HEADLINES)
        table.add_row(
            model.name,
            f'{model.parameters / 1e6:.1f} M',
            f'{model.flops.billions:g} ({model.flops.size})' if model.flops else '-',
            ', '.join(published) or '-',
            '; '.join(sources(model)) or '-',
            model.weights.name if model.weights else '-',
            model.config,
        )
    return table


def _write(*_: object) -> int:
    written = write_documents(ROOT)
    for path in written:
        print(f'wrote {path.relative_to(ROOT)}')
    print(f'{len(written)} files written' if written else 'everything is up to date')
    return 0


def _evaluate(args: argparse.Namespace, zoo: Sequence[Model]) -> int:
    from mmengine.device import get_device

    from mmvim.engine.amp_inference import describe_amp
    from mmvim.zoo.evaluate import Settings, evaluate

    weights = Weights(args.weights, download=not args.no_download)
    chosen = select(zoo, args.task, args.models)
    # What somebody names is meant; of what fits a pattern, models without weights are left out.
    jobs = [Job(model, args.tta, args.amp) for model in chosen if weights.has(model) or model.name in args.models]
    jobs = [job for job in jobs if job.metrics]
    if not jobs:
        what = 'numbers with test-time augmentation' if args.tta else 'weights'
        raise UserValueError(f'of these {len(chosen)} models no {what} were published: there is nothing to evaluate')
    gpus = args.gpus if args.launcher == 'pytorch' else 0
    settings = Settings(Path(args.data), Path(args.out), gpus, args.workers)
    console = Console(soft_wrap=True)
    if args.amp and get_device() == 'cpu':
        console.print(f'--amp: {describe_amp("bf16", "cpu")}')
    try:
        return int(evaluate(jobs, weights, settings, console, known=all_jobs(zoo)) > 0)
    except KeyboardInterrupt:
        console.print('interrupted; the same command goes on from here')
        return 130


def _check(args: argparse.Namespace, zoo: Sequence[Model]) -> int:
    from mmvim.zoo.check import check

    return int(check(select(zoo, args.task, args.models), zoo, Console()) > 0)
