"""VMamba's published layouts to ours and back.

The official names are kept where they are names. Ours differ in three things: A and the skip have an axis of their own
for the four walks, convolutions and norms of patch embedding and downsampling are called so instead of being numbered,
and every per-pixel linear layer has a matrix. The first published files use older names; they go back to the
official repository's present ones.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

_WALKS = 4
# Names in files of the first generation, by the official repository's later ones.
_OLDER = (
    (r'(^|\.)patch_embed\.proj\.', r'\1patch_embed.0.'),
    (r'(^|\.)patch_embed\.norm\.', r'\1patch_embed.2.'),
    (r'(^|\.)(layers\.\d+\.blocks\.\d+\.)ln_1\.', r'\1\2norm.'),
    (r'(^|\.)(layers\.\d+\.blocks\.\d+\.)self_attention\.', r'\1\2op.'),
    (r'^(backbone\.)?(norm|head)\.(weight|bias)$', r'\1classifier.\2.\3'),
)
# Numbered layers of the official patch embedding and downsampling, and ours.
_NUMBERED = {
    'patch_embed.0.': 'patch_embed.0.conv.',
    'patch_embed.2.': 'patch_embed.0.norm.',
    'patch_embed.5.': 'patch_embed.2.conv.',
    'patch_embed.7.': 'patch_embed.2.norm.',
    'downsample.1.': 'downsample.conv.',
    'downsample.3.': 'downsample.norm.',
}
_NUMBERED_KEY = re.compile(r'(?P<front>.*\b)(?P<name>(patch_embed|downsample)\.\d\.)(?P<leaf>weight|bias)')
_NAMED_KEY = re.compile(r'(?P<front>.*\b)(?P<name>(patch_embed\.\d|downsample)\.(conv|norm)\.)(?P<leaf>weight|bias)')
_SIGN = re.compile(
    r'(?P<root>(?:.*?\.)??)(?:backbone\.)?layers\.\d+\.blocks\.\d+\.(?:op|self_attention)\.(?:x_proj_weight|A_logs)'
)
_LINEAR = re.compile(r'.*\b(op\.(in|out)_proj|mlp\.fc[12]|downsample\.reduction|classifier\.head)\.weight')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a VMamba, in an official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of an official VMamba; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.

    Raises:
        ValueError: If the scans of a block are not four.
    """
    converted: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for older, newer in _OLDER:
            key = re.sub(older, newer, key)
        if match := _NUMBERED_KEY.fullmatch(key):
            key = match['front'] + _NUMBERED.get(match['name'], match['name']) + match['leaf']
        if _LINEAR.fullmatch(key) and tensor.dim() == 4:
            tensor = tensor.flatten(1)
        elif (key.endswith('.op.A_logs') and tensor.dim() == 2) or (key.endswith('.op.Ds') and tensor.dim() == 1):
            if tensor.shape[0] % _WALKS:
                raise UserValueError(f'{key} has {tensor.shape[0]} rows, which are not those of {_WALKS} walks')
            tensor = tensor.unflatten(0, (_WALKS, -1))
        converted[key] = tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`, with the official repository's present names."""
    official: dict[str, Tensor] = {}
    numbers = {ours: theirs for theirs, ours in _NUMBERED.items()}
    for key, tensor in state.items():
        if key.endswith(('.op.A_logs', '.op.Ds')):
            tensor = tensor.flatten(0, 1)
        match = _NAMED_KEY.fullmatch(key)
        # The downsampling of the first generation has a norm too, and no number for it.
        if match and match['front'] + match['name'].replace('.norm.', '.conv.') + 'weight' in state:
            key = match['front'] + numbers[match['name']] + match['leaf']
        official[key] = tensor
    return official


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which VMamba a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as "a VMamba of arch 'v0_tiny' (96 wide, depths 2-2-9-2, scans 2 x as wide, gated, 16 states)".

    Raises:
        ValueError: If it has no block.
    """
    block = 'layers.0.blocks.0.'
    width = _size(state, block + 'norm.weight')
    inner = _size(state, block + 'op.out_norm.weight')
    states = _size(state, block + 'op.A_logs', -1)
    gated = inner is not None and _size(state, block + 'op.in_proj.weight') == 2 * inner
    blocks = {match.groups() for key in state if (match := re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', key))}
    stages = [stage for stage, _ in blocks]
    depths = tuple(stages.count(stage) for stage in sorted(set(stages), key=int))
    if not depths:
        raise UserValueError('no block')
    if None in (width, inner, states):
        return f'a VMamba (depths {"-".join(map(str, depths))})'
    variant = variant_of(variants, embed_dims=width, depths=depths, ssm_ratio=inner / width, gate=gated)
    name = f'a VMamba of arch {variant!r}' if variant else 'a VMamba'
    return (
        f'{name} ({width} wide, depths {"-".join(map(str, depths))}, scans {inner / width:g} x as wide, '
        f'{"gated, " if gated else ""}{states} state{"s" if states > 1 else ""})'
    )


def _size(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int | None:
    return state[key].shape[axis] if key in state else None


LAYOUT = Layout(
    name='VMamba',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={r'classifier\.': 'classifier', r'outnorm\d': 'the model has no such output'},
    # VMamba norms the last map before it is pooled, as it does for a dense model.
    classifier=(('classifier.norm.', 'backbone.outnorm3.'), ('classifier.head.', 'head.fc.')),
    describe=describe,
)
