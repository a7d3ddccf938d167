"""Backbones, one file a family."""

from .convnext import ConvNeXt
from .deit import DeiT
from .mambaout import MambaOut
from .mambavision import MambaVision
from .mm_vssm import MM_VSSM
from .vim import Vim
from .vmamba import VMamba

__all__ = ['MM_VSSM', 'ConvNeXt', 'DeiT', 'MambaOut', 'MambaVision', 'VMamba', 'Vim']
