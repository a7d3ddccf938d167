"""Reading checkpoints without running code from them, official layouts to ours and back, filling models."""

from .families import from_official, to_official
from .install import install
from .match import load_backbone, load_model, state_dict_of
from .pos_embed import resize_pos_embed
from .read import read
from .report import Report

__all__ = [
    'Report',
    'from_official',
    'install',
    'load_backbone',
    'load_model',
    'read',
    'resize_pos_embed',
    'state_dict_of',
    'to_official',
]
