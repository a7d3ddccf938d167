"""Vision state-space backbones (Vim, VMamba and their kin) for OpenMMLab detection and segmentation."""

from importlib.util import find_spec

from .version import __version__

if find_spec('mmengine') is not None:
    # Importing registers. mmvim.ops stands alone and needs nothing but torch.
    from . import engine, models

    # Lets `_base_ = 'mmvim::vim/...'` and get_config find the configs of this package.
    from mmengine.config.utils import MODULE2PACKAGE  # isort: skip

    MODULE2PACKAGE.setdefault('mmvim', 'mmvim')
    __all__ = ['__version__', 'engine', 'models']
else:
    __all__ = ['__version__']
