"""What ``tools/train.py`` and ``tools/test.py`` do: read a config, check all it needs, then run it.

Every check comes before the first model or data set is built, and each says in one sentence what is missing and what
to type. The run itself is mmengine's.
"""

from __future__ import annotations

import argparse
import difflib
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import find_latest_checkpoint

from mmvim.checkpoints import read_safely_everywhere
from mmvim.checkpoints.fetch import locate

from .amp import enable_amp
from .cpu import adapt_to_cpu
from .oom import explain_out_of_memory
from .runner import Runner

PACKAGE = __name__.partition('.')[0]
REPOSITORY = Path(__file__).resolve().parents[2]
# What draws a miniature data set by the type of the data set: the kind, and the folder that it makes inside `--out`.
MINIATURES = {'ADE20KDataset': ('ade20k', 'ADEChallengeData2016'), 'CocoDataset': ('coco', '')}
# What mmengine's runner reads from a config besides its arguments.
RUNNER_KEYS = {
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}
# As in mmdet's own test script, for configs that bring no `tta_model`.
DET_TTA_MODEL = {
    'type': 'DetTTAModel',
    'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
}


def run_tool(tool: Callable[[], None]) -> None:
    """Run a command-line tool; errors that mmvim raises on purpose end it with their sentence and exit code 1.

    Whatever else goes wrong keeps its traceback.
    """
    try:
        tool()
    except Exception as error:
        if not _raised_on_purpose(error):
            raise
        sys.exit(f'error: {error}')


def _raised_on_purpose(error: Exception) -> bool:
    """Whether a ``raise`` statement of this package was the origin, not an accident inside it."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    module = frame.f_globals.get('__name__', '').partition('.')[0]
    return module == PACKAGE and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith('raise ')


def train(argv: Sequence[str] | None = None) -> None:
    """Train as the command line says (see ``tools/train.py --help``).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args = _parse(_train_parser(), argv)
    read_safely_everywhere()
    cfg = load_config(args)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError(
                f'--auto-scale-lr needs the batch size that the rates of {args.config} were made for: '
                'set auto_scale_lr=dict(base_batch_size=...) there.'
            )
        cfg.auto_scale_lr.enable = True
    check_packages(cfg)
    check_launcher(cfg)
    check_data(cfg, 'train', 'val')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = find_resume(cfg.work_dir, args.resume)
    check_weights(cfg)
    adapt_to_cpu(cfg, args.launcher)
    with explain_out_of_memory(cfg):
        build_runner(cfg).train()


def _train_parser() -> argparse.ArgumentParser:
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
            raise FileNotFoundError(
                f'--resume: there is no run to go on with in {work_dir}; '
                'leave --resume out to start one, or give --work-dir or --resume CHECKPOINT.'
            )
        checkpoint = find_latest_checkpoint(work_dir)
    check_checkpoint(checkpoint)
    return checkpoint


def test(argv: Sequence[str] | None = None) -> None:
    """Evaluate as the command line says (see ``tools/test.py --help``).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args = _parse(_test_parser(), argv)
    read_safely_everywhere()
    cfg = load_config(args)
    check_packages(cfg)
    check_launcher(cfg)
    check_data(cfg, 'test')
    check_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.out is not None:
        dump_predictions(cfg, args.out)
    pictures = save_pictures(cfg, args.show_dir) if args.show_dir is not None else None
    if args.tta:
        use_tta(cfg)
    adapt_to_cpu(cfg, args.launcher)
    build_runner(cfg).test()
    for what, where in (('predictions', args.out), ('pictures', pictures)):
        if where is not None:
            print_log(f'{what}: {where}', logger='current')


def _test_parser() -> argparse.ArgumentParser:
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
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: several scales and mirror images')
    return parser


def dump_predictions(cfg: Config, out: str) -> None:
    """Add to the config that predictions are kept, in mmdet's or mmseg's form.

    Args:
        cfg: Config of the run, changed in place.
        out: A ``.pkl`` file for detection, a folder for segmentation.

    Raises:
        ValueError: If the one is given where the other is needed, or the model is a classifier.
    """
    if cfg.get('default_scope') not in ('mmdet', 'mmseg'):
        raise ValueError(f'--out {out}: predictions of classifiers are not kept; leave it out.')
    is_pickle = out.endswith(('.pkl', '.pickle'))
    if cfg.get('default_scope') == 'mmseg':
        if is_pickle:
            raise ValueError(f'--out {out}: segmentation keeps one label map per image; give a folder.')
        for evaluator in _as_list(cfg.test_evaluator):
            evaluator['output_dir'] = out
        return
    if not is_pickle:
        raise ValueError(f'--out {out}: detection keeps its predictions in one file; give a name that ends in .pkl.')
    dump = {'type': 'DumpDetResults', 'out_file_path': out}
    cfg.test_evaluator = [*_as_list(cfg.test_evaluator), dump]


def save_pictures(cfg: Config, folder: str) -> str:
    """Add to the config that every test image is drawn into a folder.

    Returns:
        Where exactly the pictures will be, which differs between mmdet and mmseg.

    Raises:
        ValueError: If the config lacks the hook that draws.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show-dir needs the hook that draws: set default_hooks.visualization to '
            "dict(type='SegVisualizationHook') or dict(type='DetVisualizationHook') in the config."
        )
    hook.draw = True
    if cfg.get('default_scope') == 'mmdet':
        # mmdet would put a relative folder below the log of this run.
        hook.test_out_dir = os.path.abspath(folder)
        return folder
    cfg.visualizer.save_dir = folder
    return os.path.join(folder, 'vis_data', 'vis_image')


def use_tta(cfg: Config) -> None:
    """Put the model and the test pipeline of a config into their test-time-augmentation forms.

    Raises:
        ValueError: If the model predicts masks of instances, or the config lacks ``tta_pipeline``.
    """
    if _predicts_instance_masks(cfg):
        raise ValueError('--tta: mmdet merges boxes only, and this model predicts masks as well; leave --tta out.')
    if cfg.get('default_scope') == 'mmdet':
        cfg.setdefault('tta_model', DET_TTA_MODEL)
        cfg.setdefault('tta_pipeline', _default_det_tta_pipeline(cfg))
    missing = [key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config, see configs/_base_/ for examples.')
    for dataset in _datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _predicts_instance_masks(cfg: Config) -> bool:
    metrics = [_as_list(evaluator.get('metric')) for evaluator in _as_list(cfg.get('test_evaluator'))]
    return any('segm' in names for names in metrics) or cfg.model.get('roi_head', {}).get('mask_head') is not None


def _default_det_tta_pipeline(cfg: Config) -> list[dict]:
    """The test pipeline with its last step, the packing, done for the image and for its mirror image."""
    *steps, pack = deepcopy(next(_datasets(cfg.test_dataloader.dataset)).pipeline)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
    flips = [{'type': 'RandomFlip', 'prob': probability} for probability in (1.0, 0.0)]
    return [*steps, {'type': 'TestTimeAug', 'transforms': [flips, [{**pack, 'meta_keys': keys}]]}]


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, e.g. train_cfg.max_iters=1000 model.backbone.init_cfg=None',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)  # given by torch.distributed.launch
    try:
        args = parser.parse_args(argv)
    except (ValueError, AssertionError) as error:  # of DictAction
        parser.error(f'--cfg-options takes KEY=VALUE with balanced brackets and no spaces ({error})')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line, with its ``--cfg-options``, work folder and launcher in place.

    Raises:
        FileNotFoundError: If the file does not exist; the nearest names are given.
        ValueError: If an option names an entry that does not exist.
    """
    path = Path(args.config)
    if path.is_dir():
        raise FileNotFoundError(f'{path} is a folder; give the config in it that is meant.')
    if not path.is_file():
        raise FileNotFoundError(f'There is no config {path}{_nearest_configs(path)}.')
    cfg = Config.fromfile(path)
    check_options(cfg, args.cfg_options)
    try:
        cfg.merge_from_dict(args.cfg_options)
    except (TypeError, KeyError) as error:
        raise ValueError(f'--cfg-options do not fit the config: {error.args[0]}') from error
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', path.stem)
    return cfg


def _nearest_configs(path: Path) -> str:
    root = REPOSITORY / 'configs'
    if not root.is_dir():  # installed from a wheel
        root = REPOSITORY / PACKAGE / '.mim' / 'configs'
    known = {file.stem: file for file in root.rglob('*.py') if '_base_' not in file.parts}
    nearest = difflib.get_close_matches(path.stem, known, n=3, cutoff=0.5)
    return f'; nearest: {", ".join(os.path.relpath(known[name]) for name in nearest)}' if nearest else ''


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Find slips in the keys of ``--cfg-options``, which mmengine would take for new entries.

    The last part of a key may be new, as any argument of a class may be set. A part in the middle may be new too,
    unless it looks like one that is there; the first part must be in the config or be an argument of the runner.

    Raises:
        ValueError: With the entry that was probably meant.
    """
    runner_keys = set(signature(Runner.__init__).parameters) | RUNNER_KEYS
    for key in options:
        parts = key.split('.')
        node: Any = cfg._cfg_dict
        for depth, part in enumerate(parts):
            if not isinstance(node, dict):  # an index into a list, which mmengine checks
                break
            if part not in node:
                entries = {str(entry) for entry in node} | (runner_keys if depth == 0 else set())
                nearest = difflib.get_close_matches(part, entries, n=1, cutoff=0.75)
                if part not in entries and (depth == 0 or (nearest and depth < len(parts) - 1)):
                    meant = '.'.join([*parts[:depth], *nearest, *parts[depth + 1 :]])
                    hint = f'; did you mean {meant}?' if nearest else '.'
                    raise ValueError(f'--cfg-options {key}: the config has no entry {part}{hint}')
                break
            node = node[part]


def check_packages(cfg: Config) -> None:
    """See that the OpenMMLab package of the config's scope can be imported, without importing it.

    Raises:
        ModuleNotFoundError: With the command that installs what is missing.
    """
    scope = cfg.get('default_scope')
    extra = {'mmdet': 'det', 'mmseg': 'seg'}.get(scope)
    if extra is None:
        return
    if find_spec(scope) is None:
        raise ModuleNotFoundError(
            f'This config needs {scope}, which is not installed; in the folder of mmvim: pip install ".[{extra}]"'
        )
    if scope == 'mmdet' and (find_spec('mmcv') is None or find_spec('mmcv._ext') is None):
        raise ModuleNotFoundError(
            'Detection needs the compiled ops of mmcv (NMS, RoIAlign), which this mmcv was installed without; '
            'compile them once with `make ops` or `pip install --no-build-isolation --no-cache-dir --no-deps '
            '--force-reinstall onedl-mmcv` (12 to 23 minutes on 2 cores).'
        )


def check_launcher(cfg: Config) -> None:
    """See that the launcher which a process is told of has started it."""
    variable, command = {
        'pytorch': ('RANK', 'torchrun, as in tools/dist_train.sh CONFIG GPUS'),
        'slurm': ('SLURM_PROCID', 'srun, as in tools/slurm_train.sh'),
        'mpi': ('OMPI_COMM_WORLD_RANK', 'mpirun'),
        'none': (None, None),
    }[cfg.launcher]
    if variable is not None and variable not in os.environ:
        raise RuntimeError(f'--launcher {cfg.launcher} works in processes that are started by {command}.')


def check_data(cfg: Config, *stages: str) -> None:
    """See that the files of the data sets and their evaluators are where the config expects them.

    Args:
        cfg: Config of the run.
        stages: Of ``'train'``, ``'val'`` and ``'test'``, those that the run will read.

    Raises:
        FileNotFoundError: With the places that are empty and the command that draws a miniature data set.
    """
    for stage in stages:
        loader = cfg.get(f'{stage}_dataloader')
        for dataset in _datasets(loader.dataset) if loader else ():
            root = dataset.get('data_root') or ''
            missing = [path for path in _data_paths(dataset) if _is_missing(os.path.join(root, path))]
            if missing:
                raise FileNotFoundError(
                    f'The data set of {stage}_dataloader is not in its place: {root or "this folder"} has no '
                    f'{" and no ".join(missing)}; put or link it there, or change data_root{_miniature_hint(dataset)}'
                )
        for evaluator in _as_list(cfg.get(f'{stage}_evaluator')):
            path = evaluator.get('ann_file')
            if path and _is_missing(path):
                raise FileNotFoundError(
                    f'{stage}_evaluator.ann_file: there is no {path}; it does not follow data_root.'
                )


def _miniature_hint(dataset: ConfigDict) -> str:
    root = os.path.normpath(dataset.get('data_root') or '')
    kind, folder = MINIATURES.get(dataset.type, (None, None))
    if kind is None or not root.endswith(folder):
        return '.'
    out = root.removesuffix(folder).rstrip('/')
    return f'; a miniature one is drawn by: python tools/make_miniature.py {kind} --out {out}'


def _data_paths(dataset: dict) -> Iterator[str]:
    """Every file and folder that a data set names, relative to its root."""
    yield from filter(None, [dataset.get('ann_file'), *(dataset.get('data_prefix') or {}).values()])


def _datasets(dataset: dict) -> Iterator[ConfigDict]:
    """The data sets inside any wrappers (RepeatDataset, ConcatDataset, ...)."""
    inner = dataset.get('datasets') or _as_list(dataset.get('dataset'))
    if not inner:
        yield dataset
    for child in inner:
        yield from _datasets(child)


def check_weights(cfg: Config) -> None:
    """See that the weights that training starts from are there.

    Raises:
        FileNotFoundError: With the file, where it is published, where to put it, and how to train without it.
    """
    backbone = cfg.model.get('backbone', {})
    for source in (cfg.get('load_from'), *(entry.get('checkpoint') for entry in _as_list(backbone.get('init_cfg')))):
        if source:
            check_checkpoint(source)


def check_checkpoint(source: str) -> None:
    """See that a checkpoint is there; one with an address is fetched when it is needed.

    Raises:
        FileNotFoundError: With what to type, see :func:`mmvim.checkpoints.locate`.
    """
    if '://' not in source:
        locate(source)


def build_runner(cfg: Config) -> Runner:
    """mmvim's runner, or the one that the config names as ``runner_type``."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _as_list(value: Any) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_missing(path: str) -> bool:
    """Whether a local path leads nowhere; what is read through a URL is not looked at."""
    return '://' not in path and not os.path.exists(path)
