"""Necks for plain backbones. They take their norm layers from mmcv's registry: without mmcv there are none."""

from importlib.util import find_spec

__all__: list[str] = []

if find_spec('mmcv') is not None:
    from .pyramid import DeconvPyramid, SimplePyramid

    __all__ += ['DeconvPyramid', 'SimplePyramid']
