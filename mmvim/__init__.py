"""Vision state-space backbones (Vim, VMamba and their kin) for OpenMMLab detection and segmentation."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .version import __version__

if find_spec('mmengine') is not None:
    # Importing registers, the second one with mmengine's counter. mmvim.ops stands alone and needs nothing but torch.
    from . import models
    from .models import counting  # noqa: F401

    # Lets `_base_ = 'mmvim::vim/...'` and get_config find the configs of this package.
    from mmengine.config.utils import MODULE2PACKAGE  # isort: skip

    MODULE2PACKAGE.setdefault('mmvim', 'mmvim')
    __all__ = ['__version__', 'engine', 'models']
else:
    __all__ = ['__version__']


def __getattr__(name: str) -> Any:
    """``mmvim.engine``, imported when it is asked for: mmengine's runner takes as long as torch itself."""
    if name != 'engine' or name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return import_module('mmvim.engine')
