"""Necks for plain backbones."""

from .pyramid import DeconvPyramid, SimplePyramid

__all__ = ['DeconvPyramid', 'SimplePyramid']
