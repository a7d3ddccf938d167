"""Parts that several backbones share."""

from .channel_last import MLP, ConvNorm, PatchMerging
from .drop_path import DropPath, drop_path_rates
from .mixer import BidirectionalMixer, init_scan_parameters
from .norm import LayerNorm2d, RMSNorm
from .patch_embed import PatchEmbed
from .pos_embed import PositionEmbedding, rope_tables, rotate
from .ss2d import SS2D

__all__ = [
    'MLP', 'SS2D', 'BidirectionalMixer', 'ConvNorm', 'DropPath', 'LayerNorm2d', 'PatchEmbed', 'PatchMerging',
    'PositionEmbedding', 'RMSNorm',
    'drop_path_rates', 'init_scan_parameters', 'rope_tables', 'rotate',
]  # fmt: skip
