"""Selective scans and convolutions along walks over the tokens of an image. Needs torch alone."""

from . import walks
from .interface import scan, walk_conv
from .mamba import causal_conv1d_fn, selective_scan_fn
from .walks import Walks

__all__ = ['Walks', 'causal_conv1d_fn', 'scan', 'selective_scan_fn', 'walk_conv', 'walks']
