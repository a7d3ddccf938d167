"""Selective scans and convolutions along walks over the tokens of an image. Needs torch alone."""

from . import walks
from .interface import scan, walk_conv
from .walks import Walks

__all__ = ['Walks', 'scan', 'walk_conv', 'walks']
