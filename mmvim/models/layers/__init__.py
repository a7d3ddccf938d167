"""Parts that several backbones share."""

from mmvim.renamed import renamed

from .channel_last import MLP, ConvNorm, PatchMerging, build_activation
from .directions import (
    UNSEARCHED,
    DirectionAttention,
    Directions,
    listed_directions,
    read_columns_as_rows,
    resolve_directions,
)
from .drop_path import DropPath, drop_path_rates
from .norm import LayerNorm2d, RMSNorm
from .patch_embed import PatchEmbed, check_images
from .pos_embed import PositionEmbedding, fit_pos_embed, resize_pos_embed, rope_tables, rotate
from .scan_parameters import init_scan_parameters
from .walks import WALKS, MakeWalks, resolve_walks

__all__ = [
    'MLP', 'UNSEARCHED', 'WALKS', 'ConvNorm', 'DirectionAttention', 'Directions', 'DropPath', 'LayerNorm2d',
    'MakeWalks', 'PatchEmbed', 'PatchMerging', 'PositionEmbedding', 'RMSNorm',
    'build_activation', 'check_images', 'drop_path_rates', 'fit_pos_embed', 'init_scan_parameters',
    'listed_directions', 'read_columns_as_rows', 'resize_pos_embed', 'resolve_directions', 'resolve_walks',
    'rope_tables', 'rotate',
]  # fmt: skip

# The mixers under the names that they had here.
__getattr__ = renamed(
    __name__,
    {
        'SS2D': 'mmvim.models.backbones.vmamba_mixer.SS2D',
        'BidirectionalMixer': 'mmvim.models.backbones.vim_mixer.BidirectionalMixer',
    },
)
