"""Backbones and necks, registered in the scope ``mmvim``."""

from importlib.util import find_spec

from .backbones import DeiT, MambaOut, Vim, VMamba
from .classifiers import ImageClassifier, LinearHead, MLPHead

__all__ = ['DeiT', 'ImageClassifier', 'LinearHead', 'MLPHead', 'MambaOut', 'VMamba', 'Vim']

if find_spec('mmcv') is not None:
    # Necks take their norm layers from mmcv's registry; backbones get by with mmengine.
    from .necks import DeconvPyramid, SimplePyramid

    __all__ += ['DeconvPyramid', 'SimplePyramid']
