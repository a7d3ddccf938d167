"""What models that were trained at one size of images do at others, on the miniature."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.runner import TestLoop
from torch import nn

from mmvim.engine.runner import Runner
from mmvim.errors import UserValueError
from mmvim.names import hint

from .small_segmentor import Budget, config, ensure_images, trained

_PLAIN = 96, 6  # width and depth of the two plain models
_STAGED = 24  # width of the first stage of the two others


def _plain(backbone: dict[str, Any], side: int) -> dict[str, Any]:
    """A backbone of one stride, four of whose blocks feed a pyramid."""
    width, depth = _PLAIN
    taps = {'pretrain_img_size': side, 'out_indices': tuple(range(depth - 4, depth))}
    neck = {'type': 'mmvim.DeconvPyramid', 'in_channels': width, 'norm_cfg': {'type': 'BN'}}
    return {'backbone': {**backbone, **taps}, 'neck': neck, 'in_channels': [width] * 4}


def _staged(backbone: dict[str, Any]) -> dict[str, Any]:
    return {'backbone': backbone, 'in_channels': [_STAGED * 2**stage for stage in range(4)]}


def models(side: int) -> dict[str, dict[str, Any]]:
    """The parts of each small model, by its name; position embeddings are made for images of ``side`` pixels."""
    width, depth = _PLAIN
    vim = {'embed_dims': width, 'depth': depth, 'patch_size': 16, 'patch_stride': 16}
    swin = {'embed_dims': _STAGED, 'depths': (2, 2, 2, 2), 'num_heads': (1, 2, 4, 8), 'drop_path_rate': 0.0}
    return {
        'Vim': _plain({'type': 'mmvim.Vim', 'arch': vim}, side),
        'VMamba': _staged({'type': 'mmvim.VMamba', 'arch': {'embed_dims': _STAGED, 'depths': (1, 1, 2, 1)}}),
        'DeiT': _plain({'type': 'mmvim.DeiT', 'arch': {'embed_dims': width, 'depth': depth, 'heads': 3}}, side),
        'Swin': _staged({'type': 'mmseg.SwinTransformer', **swin}),
    }


NAMES = tuple(models(128))


class Run(NamedTuple):
    """One training, and its tests at all sizes.

    Attributes:
        model: Of :data:`NAMES`.
        seed: Of weights and data.
    """

    model: str
    seed: int

    @property
    def name(self) -> str:
        return f'{self.model}-{self.seed}'


def plan(names: Sequence[str], seeds: int) -> list[Run]:
    """Every model with every seed.

    Raises:
        ValueError: If there is no such model.
    """
    known = {name.lower(): name for name in NAMES}
    for name in names:
        if name.lower() not in known:
            raise UserValueError(f'unknown model {name!r}{hint(name, NAMES)}; there are {", ".join(NAMES)}')
    return [Run(known[name.lower()], seed) for seed in range(seeds) for name in names]


def images(data: Path, size: int) -> Path:
    """The folder, in ``data``, of scenes drawn at a size."""
    return data / f'{size}'


def draw_all(data: Path, budget: Budget, sizes: Sequence[int]) -> None:
    """See that scenes of every size are there: as many as are tested, and those of the training.

    Raises:
        FileExistsError: If something else is in the way.
    """
    for size in {budget.side, *sizes}:
        ensure_images(images(data, size), budget.train if size == budget.side else 1, budget.val, size)


def train_and_test(run: Run, budget: Budget, sizes: Sequence[int], data: Path) -> dict[str, Any]:
    """Train one model at one size, then test it at others.

    Returns:
        ``'sizes'``, a list of rows with mIoU in percent of scenes ``'drawn'`` at a ``'size'`` and of those of the
        training's size ``'enlarged'`` to it, and ``'ms'``, milliseconds of the processor for one image; the
        number of ``'parameters'``, and the ``'seconds'`` and ``'cpu_seconds'`` that this process took.
    """
    start = time.perf_counter()
    cfg = config(images(data, budget.side), models(budget.side)[run.model], budget, run.seed)
    with trained(cfg) as runner:
        rows = [
            {
                'size': size,
                'drawn': _miou(runner, images(data, size)),
                'enlarged': _miou(runner, images(data, budget.side), size),
                'ms': _milliseconds(runner.model, size),
            }
            for size in sizes
        ]
        return {
            **run._asdict(),
            'parameters': sum(parameter.numel() for parameter in runner.model.parameters()),
            'sizes': rows,
            'seconds': time.perf_counter() - start,
            'cpu_seconds': time.process_time(),
        }


def _miou(runner: Runner, data: Path, side: int | None = None) -> float:
    """mIoU of the validation images in a folder, seen as they are or at another size; maps are scaled back."""
    loader = deepcopy(runner.cfg.test_dataloader)
    loader.dataset.data_root = str(data / 'ADEChallengeData2016')
    if side is not None:
        loader.dataset.pipeline.insert(1, {'type': 'Resize', 'scale': (side, side)})
    return float(TestLoop(runner, loader, deepcopy(runner.cfg.test_evaluator)).run()['mIoU'])


def _milliseconds(model: nn.Module, side: int, times: int = 5) -> float:
    """Processor time of a forward pass, the best of several: unlike that of a clock, others' work hardly changes it."""
    image = torch.randn(1, 3, side, side)
    model.eval()
    taken = []
    with torch.inference_mode():
        for _ in range(times):
            start = time.process_time()
            model(image)
            taken.append(time.process_time() - start)
    return 1e3 * min(taken)
