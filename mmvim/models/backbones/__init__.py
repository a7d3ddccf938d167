"""Backbones, one file a family."""

from .convnext import ConvNeXt
from .deit import DeiT
from .efficientvmamba import EfficientVMamba
from .localvim import LocalVim
from .localvmamba import LocalVMamba
from .mambaout import MambaOut
from .mambavision import MambaVision
from .mm_vssm import MM_VSSM
from .plainmamba import PlainMamba
from .plainmamba_adapter import PlainMambaAdapter
from .vim import Vim
from .vmamba import VMamba

__all__ = [
    'MM_VSSM', 'ConvNeXt', 'DeiT', 'EfficientVMamba', 'LocalVMamba', 'LocalVim', 'MambaOut', 'MambaVision',
    'PlainMamba', 'PlainMambaAdapter', 'VMamba', 'Vim',
]  # fmt: skip
