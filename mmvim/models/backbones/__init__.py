"""Backbones, one file a family."""

from .vim import Vim

__all__ = ['Vim']
