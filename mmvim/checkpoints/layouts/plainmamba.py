"""PlainMamba's published layout to ours and back.

Ours names scan parameters as in all families, with an axis for the walks, here of one as all walks share them, and
norms of outputs by what they are. Nothing else differs, in its adapter for detection neither.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

_FRONT = r'(?P<root>(?:.*?\.)??)(?:backbone\.)?'
_SIGN = re.compile(_FRONT + r'layers\.\d+\.mamba\.direction_Bs')
#: Scan parameters of a block, theirs and ours.
_SCAN = {
    'A_log': 'A_logs',
    'D': 'Ds',
    'x_proj.weight': 'x_proj_weight',
    'dt_proj.weight': 'dt_projs_weight',
    'dt_proj.bias': 'dt_projs_bias',
}
_OF_BLOCK = re.compile(r'(?P<block>(?:.*\.)?layers\.\d+\.mamba\.)(?P<leaf>.+)')
_NORMS = ((r'^((?:.*\.)?)norm_layer(\d+)\.', r'\1outnorm\2.'), (r'^((?:.*\.)?)ln1\.', r'\1norm_f.'))
_NORMS_BACK = ((r'^((?:.*\.)?)outnorm(\d+)\.', r'\1norm_layer\2.'), (r'^((?:.*\.)?)norm_f\.', r'\1ln1.'))


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a PlainMamba, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official PlainMamba; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.
    """
    converted = {}
    for key, tensor in state.items():
        match = _OF_BLOCK.fullmatch(key)
        if match and match['leaf'] in _SCAN:
            key, tensor = match['block'] + _SCAN[match['leaf']], tensor[None]
        converted[_renamed(key, _NORMS)] = tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    theirs, official = {ours: name for name, ours in _SCAN.items()}, {}
    for key, tensor in state.items():
        match = _OF_BLOCK.fullmatch(key)
        if match and match['leaf'] in theirs:
            key, tensor = match['block'] + theirs[match['leaf']], tensor[0]
        official[_renamed(key, _NORMS_BACK)] = tensor
    return official


def _renamed(key: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        key = re.sub(old, new, key)
    return key


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which PlainMamba a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as 'PlainMamba-L1 (192 wide, 24 deep, with its adapter)'.

    Raises:
        ValueError: If it has no block.
    """
    width = next((len(tensor) for key, tensor in state.items() if key.endswith('.mamba.out_proj.weight')), 'unknown')
    depth = len({key.split('.')[1] for key in state if key.startswith('layers.')})
    if not depth:
        raise UserValueError('no block')
    variant = variant_of(variants, embed_dims=width, depth=depth)
    name = f'PlainMamba-{variant.upper()}' if variant else 'a PlainMamba'
    return f'{name} ({width} wide, {depth} deep{", with its adapter" if "level_embed" in state else ""})'


LAYOUT = Layout(
    name='PlainMamba',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={
        r'head\.': 'classifier',
        r'norm_f\.': 'the model uses no final norm',
        r'outnorm\d': 'the model has no such output',
        r'((spm|interactions|up|ad_norm\d)\.|level_embed$)': 'the model has no adapter',
    },
    classifier=(('head.', 'head.'),),
    describe=describe,
)
