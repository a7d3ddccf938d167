"""Options that commands share."""

import argparse
import os
from collections.abc import Sequence

from mmengine.config import Config, DictAction

from mmvim.checkpoints import read_safely_everywhere
from mmvim.errors import UserModuleNotFoundError, UserRuntimeError
from mmvim.preflight.config import load_config
from mmvim.preflight.finding import demand
from mmvim.preflight.launcher import check_launcher
from mmvim.preflight.packages import check_packages


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line about a config, whose entries it may change."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, e.g. train_cfg.max_iters=1000 model.backbone.init_cfg=None',
    )
    try:
        return parser.parse_args(argv)
    except (ValueError, AssertionError) as error:  # of DictAction
        parser.error(f'--cfg-options takes KEY=VALUE with balanced brackets and no spaces ({error})')


def begin(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """Read the command line of a run and its config, and see that what runs it is there.

    Raises:
        FileNotFoundError, ValueError: As :func:`~mmvim.preflight.config.load_config`.
        ModuleNotFoundError, RuntimeError: If a package is missing or the launcher cannot start.
    """
    parser.add_argument('--no-data-check', action='store_true', help='do not look into the data at the start')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)  # given by torch.distributed.launch
    args = parse(parser, argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    read_safely_everywhere()
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    demand(check_packages(cfg), UserModuleNotFoundError)
    demand(check_launcher(cfg.launcher), UserRuntimeError)
    return args, cfg
