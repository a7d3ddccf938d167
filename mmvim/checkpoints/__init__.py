"""Reading checkpoints without running code from them, official layouts to ours and back, filling models."""

from mmvim.renamed import renamed

from .everywhere import read_safely_everywhere
from .families import from_official, to_official
from .match import load_backbone, load_model
from .read import read
from .report import Report
from .weights import state_dict_of

__all__ = [
    'Report',
    'from_official',
    'load_backbone',
    'load_model',
    'read',
    'read_safely_everywhere',
    'state_dict_of',
    'to_official',
]

__getattr__ = renamed(
    __name__,
    {
        'install': 'mmvim.checkpoints.read_safely_everywhere',
        'resize_pos_embed': 'mmvim.models.layers.resize_pos_embed',
    },
)
