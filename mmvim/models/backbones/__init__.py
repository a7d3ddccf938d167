"""Backbones, one file a family."""

from .mm_vssm import MM_VSSM
from .vim import Vim
from .vmamba import VMamba

__all__ = ['MM_VSSM', 'VMamba', 'Vim']
