"""EfficientVMamba's published layout to ours and back.

What stands in the stages that scan is named and shaped as in VMamba's first generation. The stages without scans are
numbered sequences there, in which a change of the axes stands in front of the blocks and another behind them; ours have
``blocks`` and a ``downsample`` like all stages.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from . import vmamba
from .record import Layout, variant_of

_SIGN = re.compile(
    r'(?P<root>(?:.*?\.)??)(?:backbone\.)?layers\.\d+\.blocks\.\d+\.(?:se\.channel_select|conv_branch\.0)\.weight'
)
_NUMBERED = re.compile(
    r'(?P<stage>(?:.*\.)?layers\.\d+\.)(?P<number>\d+)\.(?P<leaf>(?:conv_pw2?\.|conv_dw\.|se\.conv_|norm\.|reduction\.).+)'
)
_BLOCK = re.compile(
    r'(?P<stage>(?:.*\.)?layers\.\d+\.)blocks\.(?P<number>\d+)\.(?P<leaf>(?:conv_pw2?\.|conv_dw\.|se\.conv_).+)'
)
_DOWNSAMPLE = re.compile(r'(?P<stage>(?:.*\.)?layers\.\d+\.)downsample\.(?P<leaf>.+)')
_MERGING = ('norm.', 'reduction.')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of an EfficientVMamba, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of an official EfficientVMamba; what is in our layout already stays as it is.

    Args:
        state: A state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.

    Raises:
        ValueError: If the scans of a block are not four.
    """
    converted = {}
    for key, tensor in vmamba.from_official(state).items():
        if match := _NUMBERED.fullmatch(key):
            part = 'downsample.' if match['leaf'].startswith(_MERGING) else f'blocks.{int(match["number"]) - 1}.'
            key = match['stage'] + part + match['leaf']
        converted[key] = tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    depths: dict[str, int] = {}
    for match in filter(None, map(_BLOCK.fullmatch, state)):
        depths[match['stage']] = max(depths.get(match['stage'], 0), int(match['number']) + 1)
    official = {}
    for key, tensor in vmamba.to_official(state).items():
        if match := _BLOCK.fullmatch(key):
            key = f'{match["stage"]}{int(match["number"]) + 1}.{match["leaf"]}'
        elif (match := _DOWNSAMPLE.fullmatch(key)) and match['stage'] in depths:
            key = f'{match["stage"]}{depths[match["stage"]] + 2}.{match["leaf"]}'
        official[key] = tensor
    return official


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which EfficientVMamba a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as "an EfficientVMamba of arch 'tiny' (48-96-192-384 wide, depths 2-2-4-2)".

    Raises:
        ValueError: If it has no block.
    """
    widths, depths = {}, {}
    for key, tensor in state.items():
        if match := re.fullmatch(r'layers\.(\d+)\.blocks\.(\d+)\.(norm\.weight|conv_pw2\.1\.weight)', key):
            stage = int(match[1])
            widths[stage], depths[stage] = tensor.shape[0], depths.get(stage, 0) + 1
    if not depths:
        raise UserValueError('no block')
    widths, depths = (tuple(numbers[stage] for stage in sorted(numbers)) for numbers in (widths, depths))
    variant = variant_of(variants, embed_dims=widths, depths=depths)
    name = f'an EfficientVMamba of arch {variant!r}' if variant else 'an EfficientVMamba'
    return f'{name} ({"-".join(map(str, widths))} wide, depths {"-".join(map(str, depths))})'


LAYOUT = Layout(
    name='EfficientVMamba',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out={r'classifier\.': 'classifier', r'outnorm\d': 'the model has no such output'},
    # As VMamba it norms the last map before it is pooled.
    classifier=(('classifier.norm.', 'backbone.outnorm3.'), ('classifier.head.', 'head.fc.')),
    describe=describe,
)
