"""DeiT's published layout, which is timm's for plain vision transformers, and ours: names are the same.

Ours has no class token: its row, the first, is taken out of the position embedding when a backbone is filled.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

_SIGN = re.compile(r'(?P<front>(?P<root>(?:.*?\.)??)(?:backbone\.)?)blocks\.0\.attn\.qkv\.weight')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a DeiT: other transformers with such blocks have no position embedding."""
    return any(f'{match["front"]}pos_embed' in state for match in map(_SIGN.fullmatch, state) if match)


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which DeiT a backbone's state dict (no prefix) belongs to, such as 'DeiT-Small (384 wide, 12 deep)'.

    Raises:
        ValueError: If it has no block.
    """
    width = next((tensor.shape[-1] for key, tensor in state.items() if key.endswith('attn.qkv.weight')), 'unknown')
    depth = len({key.split('.')[1] for key in state if key.startswith('blocks.')})
    if not depth:
        raise UserValueError('no block')
    variant = variant_of(variants, embed_dims=width, depth=depth)
    name = f'DeiT-{variant.capitalize()}' if variant else 'a DeiT'
    return f'{name} ({width} wide, {depth} deep)'


LAYOUT = Layout(
    name='DeiT',
    fits=fits,
    sign=_SIGN,
    left_out={
        r'(head|head_dist)\.': 'classifier',
        r'norm\.': 'the model uses no final norm',
        r'(cls|dist)_token$': 'the model has no such token',
    },
    describe=describe,
)
