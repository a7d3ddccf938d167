"""What ``tools/train.py`` does: read a config, check all it needs, then train.

Every check comes before the first model or data set is built, and each says in one sentence what is missing and what
to type. The run itself is mmengine's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import find_latest_checkpoint

from mmvim.engine.amp import enable_amp
from mmvim.engine.cpu import set_up_cpu
from mmvim.engine.label_watch import watch_labels
from mmvim.engine.oom import explain_out_of_memory
from mmvim.engine.pooled_norm import check_pooled_norm
from mmvim.engine.runner import build_runner
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.preflight.data.places import check_data
from mmvim.preflight.data.start import check_at_start
from mmvim.preflight.finding import demand
from mmvim.preflight.outputs import check_outputs
from mmvim.preflight.weights import check_weights, find_checkpoint

from .options import begin


def train(argv: Sequence[str] | None = None) -> None:
    """Train as the command line says (see ``tools/train.py --help``).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args, cfg = begin(_parser(), argv)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserValueError(
                f'--auto-scale-lr needs the batch size that the rates of {args.config} were made for: '
                'set auto_scale_lr=dict(base_batch_size=...) there.'
            )
        cfg.auto_scale_lr.enable = True
    demand(check_outputs(cfg), UserValueError)
    demand(check_data(cfg, 'train', 'val'), UserFileNotFoundError)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = find_resume(cfg.work_dir, args.resume)
    demand(check_weights(cfg), UserFileNotFoundError)
    if not args.no_data_check:
        check_at_start(cfg, 'train', 'val')
    set_up_cpu(cfg, args.launcher)
    check_pooled_norm(cfg)
    watch_labels(cfg)
    with explain_out_of_memory(cfg):
        build_runner(cfg).train()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Train a detection or segmentation model.')
    parser.add_argument('config', help='config file, e.g. configs/vim/upernet_vim_t_ade20k.py')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: fp16 with loss scaling on a GPU, bf16 on a CPU'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on with a run: from this checkpoint, or without one from the latest in the work folder',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the rate by actual batch size / auto_scale_lr.base_batch_size',
    )
    return parser


def find_resume(work_dir: str, checkpoint: str) -> str:
    """Path of the checkpoint to go on from.

    Args:
        work_dir: Folder of the run.
        checkpoint: A path, or ``'auto'`` for the latest one in ``work_dir``.

    Raises:
        FileNotFoundError: If there is nothing to go on from.
    """
    if checkpoint == 'auto':
        if not Path(work_dir, 'last_checkpoint').is_file():
            raise UserFileNotFoundError(
                f'--resume: there is no run to go on with in {work_dir}; '
                'leave --resume out to start one, or give --work-dir or --resume CHECKPOINT.'
            )
        checkpoint = find_latest_checkpoint(work_dir)
    demand([find_checkpoint(checkpoint)], UserFileNotFoundError)
    return checkpoint
