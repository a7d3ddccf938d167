"""LocalVim's published layout to ours and back.

Officially each of the four directions of a block has parameters of its own, numbered from 0; ours are stacked. Norms
of a dense model's outputs are numbered alike, behind another sign. Tables of rotations stand in published files and are
computed here.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

#: Names of the stacked parameters of a mixer, and the official name of direction k's part.
_STACKED = {
    'conv1d_weight': 'conv1d_{}.weight',
    'conv1d_bias': 'conv1d_{}.bias',
    'x_proj_weight': 'x_proj_{}.weight',
    'dt_projs_weight': 'dt_proj_{}.weight',
    'dt_projs_bias': 'dt_proj_{}.bias',
    'A_logs': 'A_log_{}',
    'Ds': 'D_{}',
}
_OURS = {part.replace('_{}', ''): ours for ours, part in _STACKED.items()}
_MIXER = re.compile(r'(?P<block>.*\blayers\.\d+\.mixer\.)(?P<leaf>.+)')
_PART = re.compile(r'(?P<name>conv1d|x_proj|dt_proj|A_log|D)_(?P<k>\d+)(?P<end>\.weight|\.bias|)')
_SIGN = re.compile(r'(?P<root>(?:.*?\.)??)(?:backbone\.)?layers\.\d+\.mixer\.attn\.norm\.weight')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a LocalVim, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and stack the tensors of an official LocalVim; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. Class token, classifier and tables of rotations stay in it: leaving out is up to the loader.

    Raises:
        ValueError: If a direction is missing or differs in shape from the others.
    """
    converted: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        mixer = _MIXER.fullmatch(key)
        part = mixer and _PART.fullmatch(mixer['leaf'])
        if part and part['name'] + part['end'] in _OURS:
            ours = mixer['block'] + _OURS[part['name'] + part['end']]
            parts.setdefault(ours, {})[int(part['k'])] = tensor
        else:
            converted[re.sub(r'(^|\.)outnorm_(\d+\.)', r'\1outnorm\2', key)] = tensor
    for ours, tensors in parts.items():
        if sorted(tensors) != list(range(len(tensors))):
            raise UserValueError(f'{ours}: of its directions, numbered from 0, this file has {sorted(tensors)}')
        shapes = {tuple(tensor.shape) for tensor in tensors.values()}
        if len(shapes) > 1:
            raise UserValueError(f'{ours}: the directions must agree in shape, got {sorted(shapes)}')
        stacked = torch.stack([tensors[k] for k in range(len(tensors))])
        converted[ours] = stacked.squeeze(2) if ours.endswith('.conv1d_weight') else stacked
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    official: dict[str, Tensor] = {}
    for key, tensor in state.items():
        mixer = _MIXER.fullmatch(key)
        if mixer and mixer['leaf'] in _STACKED:
            for k, values in enumerate(tensor):
                values = values.unsqueeze(1) if mixer['leaf'] == 'conv1d_weight' else values
                official[mixer['block'] + _STACKED[mixer['leaf']].format(k)] = values.clone()
        else:
            official[re.sub(r'(^|\.)outnorm(\d+\.)', r'\1outnorm_\2', key)] = tensor
    return official


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which LocalVim a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as 'LocalVim-Tiny (192 wide, 20 deep)'.

    Raises:
        ValueError: If it has no block.
    """
    proj = state.get('patch_embed.proj.weight')
    width = 'unknown' if proj is None else proj.shape[0]
    depth = 1 + max((int(key.split('.')[1]) for key in state if key.startswith('layers.')), default=-1)
    if not depth:
        raise UserValueError('no block')
    variant = variant_of(variants, embed_dims=width, depth=depth)
    name = f'LocalVim-{variant.capitalize()}' if variant else 'a LocalVim'
    return f'{name} ({width} wide, {depth} deep)'


LAYOUT = Layout(
    name='LocalVim',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={
        r'head\.': 'classifier',
        r'norm_f\.': 'the model uses no final norm',
        r'cls_token$': 'the model has no class token',
        r'rope\.': 'computed',
        r'outnorm\d': 'the model has no such output',
    },
    classifier=(('head.', 'head.fc.'),),
    describe=describe,
)
