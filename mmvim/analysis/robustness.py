"""How much VMamba depends on its initialisation and its activation: the study of its paper, on the miniature.

https://arxiv.org/abs/2401.10166
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from mmvim.errors import UserValueError
from mmvim.names import hint

from .erf import Field, receptive_field, rendered
from .small_segmentor import Budget, config, losses, trained

#: Of the scans; linear layers start from a normal distribution of 0.02, as the authors' do.
SCANS = ('mamba', 'random', 'zero')
#: Of the linear layers, by mmengine's initialisers; scans start as Mamba's.
LINEAR = {
    'xavier': {'type': 'Xavier', 'layer': 'Linear', 'distribution': 'uniform'},
    'he': {'type': 'Kaiming', 'layer': 'Linear', 'distribution': 'normal', 'mode': 'fan_in'},
}
INITS = (*SCANS, *LINEAR)
ACTIVATIONS = ('silu', 'gelu', 'relu')
ARCH = {'embed_dims': 24, 'depths': (1, 1, 2, 1)}

_FIELD_IMAGES, _FIELD_SIDE, _FIELD_CELLS = 8, 256, 64


class Run(NamedTuple):
    """One training.

    Attributes:
        init: Of :data:`INITS`.
        activation: In SS2D, of :data:`ACTIVATIONS`; the MLPs keep GELU.
        seed: Of weights and data.
    """

    init: str
    activation: str
    seed: int

    @property
    def name(self) -> str:
        return f'{self.init}-{self.activation}-{self.seed}'


def plan(inits: Sequence[str], activations: Sequence[str], seeds: int) -> list[Run]:
    """Every initialisation with every activation, seed after seed: what is interrupted has whole grids.

    Raises:
        ValueError: If there is no such initialisation or activation.
    """
    for kind, names, known in (('initialisation', inits, INITS), ('activation', activations, ACTIVATIONS)):
        for name in names:
            if name not in known:
                raise UserValueError(f'unknown {kind} {name!r}{hint(name, known)}; there are {", ".join(known)}')
    return [Run(init, act, seed) for seed in range(seeds) for init in inits for act in activations]


def backbone(init: str, activation: str) -> dict[str, Any]:
    """The config of a small VMamba with this initialisation and activation."""
    return {
        'type': 'mmvim.VMamba',
        'arch': ARCH,
        'ssm_act': activation,
        'ssm_init': init if init in SCANS else 'mamba',
        'init_cfg': LINEAR.get(init),
    }


def train(run: Run, budget: Budget, data: Path) -> dict[str, Any]:
    """Train one model, and measure it.

    Returns:
        ``'mIoU'`` in percent, the ``'loss'`` of every iteration, the fields ``'before'`` and ``'after'`` training as
        lists, and the ``'seconds'`` and ``'cpu_seconds'`` that this process took.
    """
    start = time.perf_counter()
    widths = [ARCH['embed_dims'] * 2**stage for stage in range(len(ARCH['depths']))]
    model = {'backbone': backbone(run.init, run.activation), 'in_channels': widths}
    fields = {}

    def look(model: nn.Module, when: str = 'before') -> None:
        fields[when] = _coarse(receptive_field(model.backbone, rendered(_FIELD_IMAGES, _FIELD_SIDE)))

    with trained(config(data, model, budget, run.seed), look) as runner:
        look(runner.model, 'after')
        miou = float(runner.test()['mIoU'])
        return {
            **run._asdict(),
            'mIoU': miou,
            'loss': [round(loss, 5) for loss in losses(runner)],
            **fields,
            'seconds': time.perf_counter() - start,
            'cpu_seconds': time.process_time(),
        }


def _coarse(field: Field) -> list[list[float]]:
    """Sums over squares of pixels, as many a side as a picture shows, to four digits."""
    block = _FIELD_SIDE // _FIELD_CELLS
    sums = field.values.reshape(_FIELD_CELLS, block, _FIELD_CELLS, block).sum((1, 3))
    return [[float(f'{value:.4g}') for value in row] for row in sums]


def field_of(results: Sequence[dict[str, Any]], when: str) -> Field:
    """The mean of the fields of several runs, ``'before'`` or ``'after'`` training."""
    return Field(np.mean([result[when] for result in results], axis=0))
