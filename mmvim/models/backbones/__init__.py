"""Backbones, one file a family."""

from .convnext import ConvNeXt
from .deit import DeiT
from .localvim import LocalVim
from .localvmamba import LocalVMamba
from .mambaout import MambaOut
from .mm_vssm import MM_VSSM
from .vim import Vim
from .vmamba import VMamba

__all__ = ['MM_VSSM', 'ConvNeXt', 'DeiT', 'LocalVMamba', 'LocalVim', 'MambaOut', 'VMamba', 'Vim']
