"""What ``tools/test.py`` does: read a config, check all it needs, then evaluate a checkpoint."""

import argparse
from collections.abc import Sequence

from mmengine.device import get_device
from mmengine.logging import print_log

from mmvim.engine.amp_inference import predict_with_amp
from mmvim.engine.cpu import set_up_cpu
from mmvim.engine.runner import build_runner
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.inference.runtimes import Exported, inner_model, is_exported, run_by
from mmvim.preflight.data.places import check_data
from mmvim.preflight.data.start import check_at_start
from mmvim.preflight.data.unlabelled import test_without_labels
from mmvim.preflight.finding import demand
from mmvim.preflight.weights import find_checkpoint

from .options import begin
from .predictions import dump_predictions, save_pictures
from .tta import use_tta


def test(argv: Sequence[str] | None = None) -> None:
    """Evaluate as the command line says (see ``tools/test.py --help``).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args, cfg = begin(_parser(), argv)
    exported = _exported(args)
    test_without_labels(cfg, args.out)
    demand(check_data(cfg, 'test'), UserFileNotFoundError)
    demand([find_checkpoint(args.checkpoint)], UserFileNotFoundError)
    if not args.no_data_check:
        check_at_start(cfg, 'test')
    cfg.load_from = None if exported else args.checkpoint
    cfg.resume = False
    if args.out is not None:
        dump_predictions(cfg, args.out)
    pictures = save_pictures(cfg, args.show_dir) if args.show_dir is not None else None
    if args.tta:
        use_tta(cfg)
    if args.amp:
        predict_with_amp(cfg, get_device())
    set_up_cpu(cfg, args.launcher)
    runner = build_runner(cfg)
    if exported:
        run_by(inner_model(runner.model), exported)
    runner.test()
    for what, where in (('predictions', args.out), ('pictures', pictures)):
        if where is not None:
            print_log(f'{what}: {where}', logger='current')


def _exported(args: argparse.Namespace) -> Exported | None:
    """The file of ``--runtime``, opened.

    Raises:
        ValueError: If it is a checkpoint, or a checkpoint was asked for and it is none.
    """
    if is_exported(args.checkpoint) != args.runtime:
        raise UserValueError(
            f'--runtime runs files of tools/export.py, {args.checkpoint} is a checkpoint: leave --runtime out'
            if args.runtime
            else f'{args.checkpoint} was exported: add --runtime'
        )
    if args.runtime and args.amp:
        raise UserValueError('--amp does not change a file that was exported: leave --amp out')
    return Exported(args.checkpoint) if args.runtime else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Evaluate a detection or segmentation model.')
    parser.add_argument('config', help='config file, e.g. configs/vim/upernet_vim_t_ade20k.py')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir', help='folder for the log and the metrics (default: work_dirs/<name of the config>)'
    )
    parser.add_argument(
        '--out', help='keep the predictions: a folder for label maps (segmentation), a .pkl file (detection)'
    )
    parser.add_argument('--show-dir', help='folder for pictures with the predictions drawn in')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bf16 on a CPU, fp16 on a GPU, or optim_wrapper.dtype there'
    )
    parser.add_argument('--runtime', action='store_true', help='the checkpoint is a file of tools/export.py')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: several scales and mirror images')
    return parser
