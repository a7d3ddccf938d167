"""timm and what is built on it, which ``make test`` installs apart from what the other tests see; small models."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

import mmvim.models  # noqa: F401  fills BACKBONES
from mmvim.registry import BACKBONES

ELSEWHERE = Path(sys.prefix, 'elsewhere', 'lib', f'python3.{sys.version_info[1]}', 'site-packages')
# Settings that make a small model of each family, by the name of its backbone.
_STAGED, _PLAIN = {'embed_dims': 16, 'depths': (1, 1, 1, 1)}, {'embed_dims': 32, 'depth': 4}
_DIRECTIONS = {'directions': ('h', 'v_flip', 'w2', 'w7_flip')}
SMALL = {
    'Vim': _PLAIN,
    'VMamba': _STAGED,
    'LocalVim': _PLAIN | _DIRECTIONS,
    'LocalVMamba': _STAGED | _DIRECTIONS,
    'EfficientVMamba': _STAGED | {'embed_dims': (16, 32, 64, 128)},
    'PlainMamba': _PLAIN | {'conv_blocks': (0,)},
    'MambaVision': _STAGED | {'depths': (1, 1, 2, 2), 'heads': (2, 2), 'stem_dims': 8},
}
SMALL = {backbone: settings for backbone, settings in SMALL.items() if backbone in BACKBONES}


def load_timm() -> ModuleType:
    """timm with our models, and a small one of each family, ``small_vmamba`` and the like."""
    if find_spec('timm') is None:
        sys.path.append(str(ELSEWHERE))
    assert find_spec('timm'), f'timm is neither here nor in {ELSEWHERE}: python3 tools/setup_env.py test'
    declare_operators()
    import timm

    import mmvim.timm

    for backbone, settings in SMALL.items():
        name = next(name for name in mmvim.timm.NAMES if name.startswith(f'{backbone.lower()}_'))
        _register_small(timm, f'small_{backbone.lower()}', getattr(mmvim.timm, name), settings)
    return timm


def _register_small(timm: ModuleType, name: str, entry: Callable, settings: dict) -> None:
    def small(pretrained: bool = False, **options):
        return entry(pretrained, **{**settings, **options})

    small.__name__, small.__module__ = name, __name__
    timm.models.register_model(small)


OPERATORS = []  # as long as this lives they are there


def declare_operators() -> None:
    """Operators that a torchvision for CUDA does not bring where torch has none, so that it can be imported.

    Importing it says what those that it compiles do with shapes, which fails where they are not declared. One of them
    a detector needs in training, to thin out its proposals; in place of the others torchvision has PyTorch.
    """
    if OPERATORS:
        return
    library = Path(find_spec('torchvision').origin).with_name('_C.so')
    try:
        torch.ops.load_library(library)
    except OSError:
        operators = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            operators.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        operators.impl('nms', _nms, 'CPU')
        OPERATORS.append(operators)


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    from mmcv.ops import nms

    return nms(boxes.float(), scores.float(), float(iou_threshold))[1]
