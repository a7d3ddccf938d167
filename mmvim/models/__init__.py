"""Backbones, classifiers, necks and pretraining, registered in the scope ``mmvim``."""

from importlib import import_module
from typing import Any

from . import backbones
from .backbones import *  # noqa: F403

# Imported when they are asked for, by name here or through the registry: they are mmengine's modules, and importing
# those takes as long as torch itself.
_LATER = {
    **dict.fromkeys(['BatchNormHead', 'ImageClassifier', 'LinearHead', 'MLPHead'], 'classifiers'),
    **dict.fromkeys(['DeconvPyramid', 'SimplePyramid'], 'necks'),
    **dict.fromkeys(['CLIP', 'SimMIM'], 'pretraining'),
}
__all__ = [*backbones.__all__, *_LATER]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_LATER[name]}'), name)
