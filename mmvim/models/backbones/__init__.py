"""Backbones, one file a family."""

from .vim import Vim
from .vmamba import VMamba

__all__ = ['VMamba', 'Vim']
