"""Parts that several backbones share."""

from importlib import import_module
from typing import Any
from warnings import warn

from .channel_last import MLP, ConvNorm, PatchMerging, build_activation
from .drop_path import DropPath, drop_path_rates
from .norm import LayerNorm2d, RMSNorm
from .patch_embed import PatchEmbed, check_images
from .pos_embed import PositionEmbedding, rope_tables, rotate
from .scan_parameters import init_scan_parameters
from .walks import WALKS, MakeWalks, resolve_walks

__all__ = [
    'MLP', 'WALKS', 'ConvNorm', 'DropPath', 'LayerNorm2d', 'MakeWalks', 'PatchEmbed', 'PatchMerging',
    'PositionEmbedding', 'RMSNorm',
    'build_activation', 'check_images', 'drop_path_rates', 'init_scan_parameters', 'resolve_walks', 'rope_tables',
    'rotate',
]  # fmt: skip

_MOVED = {'SS2D': 'mmvim.models.backbones.vmamba_mixer', 'BidirectionalMixer': 'mmvim.models.backbones.vim_mixer'}


def __getattr__(name: str) -> Any:
    """The mixers under the names that they had here, until the release after the next."""
    if name not in _MOVED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    warn(f'{__name__}.{name} is now {_MOVED[name]}.{name}', FutureWarning, stacklevel=2)
    return getattr(import_module(_MOVED[name]), name)
