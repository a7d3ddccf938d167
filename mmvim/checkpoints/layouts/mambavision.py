"""MambaVision's published layout to ours and back.

The official names are kept where they are names. Ours differ in four things: scan parameters have an axis of their own
for walks, the convolutions of the two halves of a mixer are one, convolutions and norms of stem and downsampling are
called so instead of being numbered, and the classifier stands under ``classifier.``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

_SIGN = re.compile(
    r'(?P<front>(?P<root>(?:.*?\.)??)(?:backbone\.)?)levels\.\d+\.blocks\.\d+\.(?:mixer\.A_logs?|conv1\.weight)'
)
# Theirs and ours, behind what stands in front of a backbone's names; those that end in a dot are of modules.
_NAMES = (
    ('patch_embed.conv_down.0.', 'patch_embed.conv1.'),
    ('patch_embed.conv_down.1.', 'patch_embed.norm1.'),
    ('patch_embed.conv_down.3.', 'patch_embed.conv2.'),
    ('patch_embed.conv_down.4.', 'patch_embed.norm2.'),
    ('norm.', 'classifier.norm.'),
    ('head.', 'classifier.head.'),
)
# The same within a stage.
_IN_STAGES = (
    ('downsample.reduction.0.', 'downsample.conv.'),
    ('norm1.', 'norm.'),
    ('mixer.x_proj.weight', 'mixer.x_proj_weight'),
    ('mixer.dt_proj.weight', 'mixer.dt_projs_weight'),
    ('mixer.dt_proj.bias', 'mixer.dt_projs_bias'),
    ('mixer.A_log', 'mixer.A_logs'),
    ('mixer.D', 'mixer.Ds'),
)
_OF_WALKS = tuple(ours for _, ours in _IN_STAGES if ours.startswith('mixer.'))
_HALVES = ('mixer.conv1d_x.weight', 'mixer.conv1d_z.weight')
_CONV = 'mixer.conv1d_weight'
_PLACE = re.compile(r'levels\.\d+\.(?:blocks\.\d+\.)?')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a MambaVision, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of an official MambaVision; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.

    Raises:
        ValueError: If a mixer has only one half of its convolution.
    """
    converted: dict[str, Tensor] = {}
    front = _front(state)
    for key, tensor in state.items():
        place, name = _split(key, front)
        if place is None:
            converted[key] = tensor
        elif name in _HALVES:
            converted[place + _CONV] = torch.cat([_half(state, place, half) for half in _HALVES]).transpose(0, 1)
        else:
            ours = _renamed(name, _NAMES if place == front else _IN_STAGES)
            converted[place + ours] = tensor.unsqueeze(0) if ours in _OF_WALKS and ours != name else tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`.

    Raises:
        ValueError: If the windows are scanned along several walks, for which there are no names.
    """
    official: dict[str, Tensor] = {}
    front = _front(state)
    for key, tensor in state.items():
        place, name = _split(key, front)
        if place is None:
            official[key] = tensor
        elif name == _CONV:
            official.update(zip((place + half for half in _HALVES), tensor.transpose(0, 1).chunk(2), strict=True))
        else:
            if name in _OF_WALKS:
                if len(tensor) != 1:
                    raise UserValueError(f'{key} is of {len(tensor)} walks, official files have names for one')
                tensor = tensor.squeeze(0)
            pairs = _NAMES if place == front else _IN_STAGES
            official[place + _renamed(name, [(ours, theirs) for theirs, ours in pairs])] = tensor
    return official


def _front(state: Mapping[str, Tensor]) -> str:
    """What stands in front of the names of the MambaVision in a state dict."""
    return next((match['front'] for key in state if (match := _SIGN.fullmatch(key))), '')


def _split(key: str, front: str) -> tuple[str | None, str]:
    """What says where a tensor is, up to its block or stage, and its name there; None for what is no MambaVision's."""
    if not key.startswith(front):
        return None, key
    place = _PLACE.match(key, len(front))
    end = place.end() if place else len(front)
    return key[:end], key[end:]


def _renamed(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    fitting = (pair for pair in pairs if name == pair[0] or (pair[0].endswith('.') and name.startswith(pair[0])))
    old, new = next(fitting, ('', ''))
    return new + name.removeprefix(old)


def _half(state: Mapping[str, Tensor], place: str, half: str) -> Tensor:
    if place + half not in state:
        raise UserValueError(f'there is no {place + half} beside the other half of the convolution')
    return state[place + half]


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which MambaVision a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as "a MambaVision of arch 'tiny' (80 wide, depths 1-3-8-4)".

    Raises:
        ValueError: If it has no block.
    """
    blocks = {match.groups() for key in state if (match := re.match(r'levels\.(\d+)\.blocks\.(\d+)\.', key))}
    stages = [stage for stage, _ in blocks]
    depths = tuple(stages.count(stage) for stage in sorted(set(stages), key=int))
    if not depths:
        raise UserValueError('no block')
    width = state['patch_embed.conv2.weight'].shape[0] if 'patch_embed.conv2.weight' in state else None
    variant = variant_of(variants, embed_dims=width, depths=depths)
    name = f'a MambaVision of arch {variant!r}' if variant else 'a MambaVision'
    wide = '' if width is None else f'{width} wide, '
    return f'{name} ({wide}depths {"-".join(map(str, depths))})'


LAYOUT = Layout(
    name='MambaVision',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={r'classifier\.': 'classifier', r'outnorm\d': 'the model has no such output'},
    classifier=(('classifier.norm.', 'head.norm.'), ('classifier.head.', 'head.fc.')),
    describe=describe,
)
