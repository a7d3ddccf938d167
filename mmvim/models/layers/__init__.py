"""Parts that several backbones share."""

from .drop_path import DropPath, drop_path_rates
from .mixer import BidirectionalMixer, init_scan_parameters
from .norm import LayerNorm2d
from .patch_embed import PatchEmbed
from .pos_embed import PositionEmbedding, rope_tables, rotate

__all__ = [
    'BidirectionalMixer', 'DropPath', 'LayerNorm2d', 'PatchEmbed', 'PositionEmbedding',
    'drop_path_rates', 'init_scan_parameters', 'rope_tables', 'rotate',
]  # fmt: skip
