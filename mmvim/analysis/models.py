"""Backbones by name: ours and what they are compared with, each giving a tuple of maps."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import signature

from torch import nn

from mmvim.catalogue import FAMILIES
from mmvim.errors import UserImportError, UserValueError
from mmvim.names import hint
from mmvim.registry import MODELS

from .deit import DeiT
from .swin import Swin

_DIMS = {'tiny': 192, 'small': 384, 'base': 768}
_SWIN = {'tiny': (96, (2, 2, 6, 2)), 'small': (96, (2, 2, 18, 2)), 'base': (128, (2, 2, 18, 2))}
_LETTERS = {'tiny': 'Ti', 'small': 'S', 'base': 'B'}


def _ours(backbone: Callable, arch: str, size: int) -> nn.Module:
    # At this size, so that a position embedding is taken as it is, as DeiT's is.
    sized = {'pretrain_img_size': size} if 'pretrain_img_size' in signature(backbone).parameters else {}
    return backbone(arch, **sized)


def _deit(arch: str, fused: bool, size: int) -> nn.Module:
    return DeiT(_DIMS[arch], (size, size), fused)


def _swin(arch: str, size: int) -> nn.Module:
    return Swin(*_SWIN[arch])


def _resnet(depth: int, size: int) -> nn.Module:
    for package in ('mmdet', 'mmseg'):
        try:
            return import_module(f'{package}.models').ResNet(depth)
        except ImportError:
            continue
    raise UserImportError("ResNet is mmdet's or mmseg's: pip install -c constraints.txt -e '.[seg]'")


def _named() -> dict[str, tuple[str, Callable[[int], nn.Module]]]:
    """Name on the command line to name in tables and what builds the model for square images of a size."""
    found = {}
    for family in FAMILIES.values():
        backbone = MODELS.get(f'mmvim.{family.backbone}') if family.backbone else None
        zoo = getattr(backbone, 'arch_zoo', {})
        for arch, settings in zoo.items():
            abbreviation = len(arch) <= 2 and any(len(name) > 2 for name in zoo if zoo[name] is settings)
            if not abbreviation:
                title = family.titles.get(arch, f'{family.name}-{arch[0].upper() if arch in _DIMS else arch}')
                found[f'{family.name.lower()}_{arch}'] = title, partial(_ours, backbone, arch)
    for arch, letters in _LETTERS.items():
        found[f'deit_{arch}'] = f'DeiT-{letters}, SDPA', partial(_deit, arch, True)
        found[f'deit_{arch}_naive'] = f'DeiT-{letters}, naive', partial(_deit, arch, False)
        found[f'swin_{arch}'] = f'Swin-{letters[0]}', partial(_swin, arch)
    for depth in (18, 50, 101):
        found[f'resnet_{depth}'] = f'ResNet-{depth}', partial(_resnet, depth)
    return found


NAMED = _named()


def title(name: str) -> str:
    """The name of a model in tables."""
    return _lookup(name)[0]


def build(name: str, size: int) -> nn.Module:
    """A model with random weights in evaluation mode.

    Args:
        name: A key of :data:`NAMED`.
        size: Side in pixels of the square images that it will see.

    Raises:
        ValueError: If there is no model of that name.
        ImportError: If it is a package's that is not installed.
    """
    model = _lookup(name)[1](size)
    model.eval()  # on its own: mmdet's return nothing
    return model


def _lookup(name: str) -> tuple[str, Callable[[int], nn.Module]]:
    if name not in NAMED:
        raise UserValueError(f'unknown model {name!r}{hint(name, NAMED)}; there are {", ".join(NAMED)}')
    return NAMED[name]
