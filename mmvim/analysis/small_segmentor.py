"""UPerNet on a small backbone and the drawn miniature of ADE20K: what the studies train, in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from mmvim.engine.cpu import set_up_cpu
from mmvim.engine.quiet import quiet
from mmvim.engine.runner import Runner
from mmvim.errors import UserFileExistsError, UserModuleNotFoundError, UserOSError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.paths import CONFIGS
from mmvim.preflight.finding import demand
from mmvim.preflight.packages import find_package

_DEMO = CONFIGS / 'demo/upernet_vim_t_miniature.py'
_CHANNELS = 32  # of the head
_WARM_UP = 30  # iterations at most


@dataclass(frozen=True)
class Budget:
    """What every model of a study gets.

    Attributes:
        iterations: Steps of AdamW.
        batch: Crops in each.
        crop: Their side in pixels.
        rate: The learning rate at its highest.
        train, val: Images drawn for training and for mIoU.
        side: Theirs in pixels.
    """

    iterations: int
    batch: int = 8
    crop: int = 64
    rate: float = 2e-3
    train: int = 400
    val: int = 80
    side: int = 128


def ensure_images(folder: Path, train: int, val: int, side: int) -> None:
    """See that images are in a folder, drawn now or there already.

    Raises:
        FileExistsError: If something else is there.
        OSError: If it cannot be written.
    """
    try:
        ensure_miniature('ade20k', folder, train=train, val=val, size=(side, side))
    except UserFileExistsError as error:
        raise UserFileExistsError(
            f'{folder} holds something else than {train} and {val} drawn images of {side} x {side}: '
            'name another folder with --data'
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise UserOSError(f'{folder} cannot be written ({reason}): name another folder with --data') from error


def require_mmseg() -> None:
    """See that mmseg is installed.

    Raises:
        ModuleNotFoundError: If not, with what to type.
    """
    demand([find_package('mmseg')], UserModuleNotFoundError)


def config(data: Path, model: Mapping[str, Any], budget: Budget, seed: int) -> Config:
    """The demo's config with another model and budget.

    Args:
        data: Folder that :func:`ensure_images` filled.
        model: ``backbone``, ``in_channels`` of its four maps for the head, and a ``neck`` if they are no pyramid.
        budget: Of the training.
        seed: Of weights, crops and their order.
    """
    cfg = Config.fromfile(_DEMO)
    cfg.model.backbone, cfg.model.neck, cfg.model.auxiliary_head = model['backbone'], model.get('neck'), None
    cfg.model.decode_head.in_channels, cfg.model.decode_head.channels = model['in_channels'], _CHANNELS
    cfg.model.data_preprocessor.size = budget.crop, budget.crop
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data / 'ADEChallengeData2016')
    cfg.train_dataloader.batch_size = budget.batch
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if step['type'] == 'RandomCrop')
    crop.crop_size = (budget.crop, budget.crop)
    cfg.optim_wrapper.optimizer.lr = budget.rate
    warm_up = min(_WARM_UP, budget.iterations // 2)
    rise, fall = cfg.param_scheduler
    rise.end = fall.begin = warm_up
    fall.end = cfg.train_cfg.max_iters = budget.iterations
    cfg.train_cfg.val_interval = budget.iterations + 1  # never: mIoU is measured at the end
    cfg.default_hooks, cfg.visualizer.vis_backends = {'checkpoint': None, 'logger': None}, []
    cfg.randomness = {'seed': seed}
    return cfg


@contextmanager
def trained(cfg: Config, before: Callable[[nn.Module], Any] = lambda _: None) -> Iterator[Runner]:
    """A runner that has trained, without a word and without files that stay.

    Args:
        cfg: As :func:`config` gives it.
        before: Called with the initialised model before its first step.
    """
    with TemporaryDirectory() as logs, quiet(), redirect_stdout(io.StringIO()):
        # A name of its own: runners of one process share what they have logged under the same one.
        cfg.merge_from_dict({'work_dir': logs, 'log_level': 'ERROR', 'experiment_name': Path(logs).name})
        set_up_cpu(cfg)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(_Before(before))
        runner.train()
        yield runner


class _Before(Hook):
    def __init__(self, call: Callable[[nn.Module], Any]) -> None:
        self.call = call

    def before_train(self, runner: Runner) -> None:
        self.call(runner.model)


def losses(runner: Runner) -> list[float]:
    """The loss of every iteration."""
    values, _ = runner.message_hub.get_scalar('train/loss').data
    return [float(value) for value in values]
