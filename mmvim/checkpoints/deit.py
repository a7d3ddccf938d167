"""DeiT's published layout, which is timm's for plain vision transformers, and ours: names are the same.

Ours has no class token: its row, the first, is taken out of the position embedding when a backbone is filled.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from .pos_embed import check_pos_embed

NAME = 'DeiT'

#: What a file may hold beyond a backbone, and why it is left out.
LEFT_OUT = {
    r'(head|head_dist)\.': 'classifier',
    r'norm\.': 'the model uses no final norm',
    r'(cls|dist)_token$': 'the model has no such token',
}

_SIGN = re.compile(r'(?P<front>(?:\w+\.)?)blocks\.0\.attn\.qkv\.weight')
_VARIANTS = {192: 'Tiny', 384: 'Small', 768: 'Base'}


def is_family(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a DeiT: other transformers with such blocks have no position embedding."""
    return any(f'{match["front"]}pos_embed' in state for match in map(_SIGN.fullmatch, state) if match)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as it is."""
    return dict(state)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as it is."""
    return dict(state)


def describe(state: Mapping[str, Tensor], stride: int | None = None) -> str:
    """Say which DeiT a backbone's state dict (no prefix) belongs to, such as 'DeiT-Small (384 wide, 12 deep)'.

    Args:
        state: The state dict.
        stride: Not used: DeiT's is always 16.
    """
    width = next((tensor.shape[-1] for key, tensor in state.items() if key.endswith('attn.qkv.weight')), 'unknown')
    depth = len({key.split('.')[1] for key in state if key.startswith('blocks.')})
    name = f'DeiT-{_VARIANTS[width]}' if width in _VARIANTS and depth == 12 else 'a DeiT'
    return f'{name} ({width} wide, {depth} deep)'


def adapt(found: dict[str, Tensor], own: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> list[str]:
    """Take the rows of the class token, and of the distilled models' second token, out of a position embedding.

    Args:
        found: The backbone's tensors in the file, no prefix. ``pos_embed`` is replaced.
        own: The model's state dict.
        grid: Not used: the table of the file must have the size of the model's.

    Returns:
        What was done, in words.
    """
    tokens = sum(token in found and token not in own for token in ('cls_token', 'dist_token'))
    if not tokens or 'pos_embed' not in found:
        return []
    check_pos_embed(found['pos_embed'])
    found['pos_embed'] = found['pos_embed'][:, tokens:]
    return ['row of the class token taken out of the position embedding']


def stride_conflict(found: Mapping[str, Tensor], own: Mapping[str, Tensor], stride: int | None) -> bool:
    """Whether a file was made for another patch stride than a model's: never, there is one only."""
    return False
