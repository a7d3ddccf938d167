"""Vim's published layouts to ours and back.

Officially the two directions of a block have parameters of their own, the backward ones marked by ``_b``; ours are
stacked, forward first. The official dense models keep their pyramid inside the backbone (``fpn1``, ``simfp_2``), the
detection model moreover keeps the blocks under ``net.``; ours is a neck. Nothing else differs, so that converting
there and back gives the same file.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

#: Names of the stacked parameters of a mixer, and the official names of their two parts.
_STACKED = {
    'conv1d_weight': ('conv1d.weight', 'conv1d_b.weight'),
    'conv1d_bias': ('conv1d.bias', 'conv1d_b.bias'),
    'x_proj_weight': ('x_proj.weight', 'x_proj_b.weight'),
    'dt_projs_weight': ('dt_proj.weight', 'dt_proj_b.weight'),
    'dt_projs_bias': ('dt_proj.bias', 'dt_proj_b.bias'),
    'A_logs': ('A_log', 'A_b_log'),
    'Ds': ('D', 'D_b'),
}
_PART = {part: (ours, k) for ours, parts in _STACKED.items() for k, part in enumerate(parts)}
_MIXER = re.compile(r'(?P<block>.*\blayers\.\d+\.mixer\.)(?P<leaf>.+)')
_OFFICIAL_NECK = re.compile(r'(?:backbone\.)?(?P<key>(?:fpn[12]|simfp_\d)\..+)')
_SIGN = re.compile(r'(?P<root>(?:.*?\.)??)(?:backbone\.)?(?:net\.)?layers\.\d+\.mixer\.(?:A_b_log|A_logs)')

# Rows of the position embedding at 224 x 224 without the class token, and the patch stride that this means.
_STRIDES = {14 * 14: 16, 27 * 27: 8}


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a Vim, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and stack the tensors of an official Vim; what is in our layout already stays as it is.

    Args:
        state: a state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. Class token, classifier and RoPE tables stay in it: leaving out is up to the loader.

    Raises:
        ValueError: if one direction of a pair is missing or the two differ in shape.
    """
    converted: dict[str, Tensor] = {}
    for key, tensor in state.items():
        mixer, neck = _MIXER.fullmatch(key), _OFFICIAL_NECK.fullmatch(key)
        if neck:
            converted['neck.' + neck['key']] = tensor
        elif mixer and mixer['leaf'] in _PART:
            ours, k = _PART[mixer['leaf']]
            if k == 0:
                converted[_without_net(mixer['block']) + ours] = _stack(state, mixer['block'], ours)
            elif mixer['block'] + _STACKED[ours][0] not in state:
                raise UserValueError(f'{key} has no forward partner {mixer["block"] + _STACKED[ours][0]} in this file')
        else:
            converted[_without_net(key)] = tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`.

    A state dict with a simple pyramid gets the names of the official detector (``net.``), any other those of the
    classifier and the segmentation backbone.
    """
    root = 'backbone.' if any(key.startswith('backbone.') for key in state) else ''
    net = root + 'net.' if any(key.startswith('neck.simfp_') for key in state) else root
    official: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(('neck.fpn', 'neck.simfp_')):
            official[root + key.removeprefix('neck.')] = tensor
            continue
        if key.startswith(root):
            key = net + key.removeprefix(root)
        mixer = _MIXER.fullmatch(key)
        if mixer and mixer['leaf'] in _STACKED:
            for part, values in zip(_STACKED[mixer['leaf']], tensor, strict=True):
                values = values.unsqueeze(1) if mixer['leaf'] == 'conv1d_weight' else values
                official[mixer['block'] + part] = values.clone()
        else:
            official[key] = tensor
    return official


def _without_net(key: str) -> str:
    return re.sub(r'^(backbone\.)?net\.', r'\1', key)


def _stack(state: Mapping[str, Tensor], block: str, ours: str) -> Tensor:
    first, second = (block + part for part in _STACKED[ours])
    if second not in state:
        raise UserValueError(f'{first} has no backward partner {second} in this file')
    if state[first].shape != state[second].shape:
        raise UserValueError(
            f'{first} {tuple(state[first].shape)} and {second} {tuple(state[second].shape)} must agree'
        )
    stacked = torch.stack([state[first], state[second]])
    return stacked.squeeze(2) if ours == 'conv1d_weight' else stacked


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which Vim a backbone's state dict (our layout, no prefix) belongs to, such as 'Vim-Small (384 wide, ...)'.

    The stride of the patches is told from a position embedding made at 224 x 224.

    Raises:
        ValueError: If it has no block.
    """
    proj = state.get('patch_embed.proj.weight')
    width = 'unknown' if proj is None else proj.shape[0]
    depth = 1 + max((int(key.split('.')[1]) for key in state if key.startswith('layers.')), default=-1)
    if not depth:
        raise UserValueError('no block')
    rows = state['pos_embed'].shape[1] - ('cls_token' in state) if 'pos_embed' in state else None
    stride = _STRIDES.get(rows)
    variant = variant_of(variants, embed_dims=width, depth=depth, patch_stride=16)
    name = f'Vim-{variant.capitalize()}{"+" if stride == 8 else ""}' if variant else 'a Vim'
    return f'{name} ({width} wide, {depth} deep' + (f', patch stride {stride})' if stride else ')')


LAYOUT = Layout(
    name='Vim',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={
        r'head\.': 'classifier',
        r'norm_f\.': 'the model uses no final norm',
        r'cls_token$': 'the model has no class token',
        r'rope\.': 'computed',
        r'neck\.': 'neck',
    },
    classifier=(('head.', 'head.fc.'),),
    describe=describe,
)
