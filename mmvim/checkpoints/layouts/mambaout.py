"""MambaOut's published layouts, the authors' and timm's, to ours and back.

Ours names the body as timm does: each stage holds its blocks and the downsampling in front of them. The other two mean
different norms by ``head.norm``; ours puts the classifier under ``classifier.``, with the authors' names behind it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from .record import Layout, variant_of

_SIGN = re.compile(r'(?P<front>(?P<root>(?:.*?\.)??)(?:backbone\.)?)stages\.\d+\.(?:blocks\.)?\d+\.fc1\.weight')
_FROM_AUTHORS = (
    (r'^downsample_layers\.0\.', 'stem.'),
    (r'^downsample_layers\.(\d+)\.', r'stages.\1.downsample.'),
    (r'^stages\.(\d+)\.(\d+)\.', r'stages.\1.blocks.\2.'),
    (r'^(norm|head)\.', r'classifier.\1.'),
)
_TO_AUTHORS = (
    (r'^stem\.', 'downsample_layers.0.'),
    (r'^stages\.(\d+)\.downsample\.', r'downsample_layers.\1.'),
    (r'^stages\.(\d+)\.blocks\.', r'stages.\1.'),
    (r'^classifier\.', ''),
)
_FROM_TIMM = (
    (r'^head\.norm\.', 'classifier.norm.'),
    (r'^head\.pre_logits\.fc\.', 'classifier.head.fc1.'),
    (r'^head\.pre_logits\.norm\.', 'classifier.head.norm.'),
    (r'^head\.fc\.', 'classifier.head.fc2.'),
)


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a MambaOut, in the authors' layout, timm's or ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a MambaOut of the authors or of timm; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.
    """
    in_stages = any(key.endswith('stem.conv1.weight') for key in state)
    return _renamed(state, _FROM_TIMM if in_stages else _FROM_AUTHORS)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`, with the authors' names."""
    return _renamed(state, _TO_AUTHORS)


def _renamed(state: Mapping[str, Tensor], patterns: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The state dict with the first fitting pattern applied to each name of the MambaOut in it."""
    front = next((match['front'] for key in state if (match := _SIGN.fullmatch(key))), '')

    def rename(key: str) -> str:
        name = key.removeprefix(front)
        pair = next(((old, new) for old, new in patterns if re.match(old, name)), None)
        return front + re.sub(*pair, name) if pair and key.startswith(front) else key

    return {rename(key): tensor for key, tensor in state.items()}


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which MambaOut a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as "a MambaOut of arch 'tiny' (96-192-384-576 wide, depths 3-3-9-3)".

    Raises:
        ValueError: If it has no block.
    """
    widths, depths = {}, {}
    for key, tensor in state.items():
        if match := re.fullmatch(r'stages\.(\d+)\.blocks\.(\d+)\.fc1\.weight', key):
            stage = int(match[1])
            widths[stage], depths[stage] = tensor.shape[-1], depths.get(stage, 0) + 1
    if not depths:
        raise UserValueError('no block')
    widths, depths = ([numbers[stage] for stage in sorted(numbers)] for numbers in (widths, depths))
    variant = variant_of(variants, embed_dims=tuple(widths), depths=tuple(depths))
    name = f'a MambaOut of arch {variant!r}' if variant else 'a MambaOut'
    return f'{name} ({"-".join(map(str, widths))} wide, depths {"-".join(map(str, depths))})'


LAYOUT = Layout(
    name='MambaOut',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={r'classifier\.': 'classifier', r'outnorm\d': 'the model has no such output'},
    classifier=(
        ('classifier.norm.', 'head.norm.'),
        ('classifier.head.norm.', 'head.hidden_norm.'),
        ('classifier.head.', 'head.'),
    ),
    describe=describe,
)
