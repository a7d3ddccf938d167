"""LocalVMamba's published layout to ours and back: that of the first VMamba, and the attention over directions.

Officially this attention stands within the module that makes the walks; here that is none.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError

from . import vmamba
from .record import Layout, variant_of

_SIGN = re.compile(
    r'(?P<root>(?:.*?\.)??)(?:backbone\.)?layers\.\d+\.blocks\.\d+\.op\.(?:multi_scan\.)?attn\.norm\.weight'
)
_THEIRS, _OURS = re.compile(r'(\.blocks\.\d+\.op\.)multi_scan\.attn\.'), re.compile(r'(\.blocks\.\d+\.op\.)attn\.')


def fits(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a LocalVMamba, in the official layout or in ours."""
    return any(map(_SIGN.fullmatch, state))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of an official LocalVMamba; arguments and errors are those of VMamba's.

    Returns:
        A new dict. The classifier stays in it: leaving out is up to the loader.
    """
    return {_THEIRS.sub(r'\1attn.', key): tensor for key, tensor in vmamba.from_official(state).items()}


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    return {_OURS.sub(r'\1multi_scan.attn.', key): tensor for key, tensor in vmamba.to_official(state).items()}


def describe(state: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which LocalVMamba a backbone's state dict (our layout, no prefix) belongs to.

    Returns:
        Such as "a LocalVMamba of arch 'tiny' (96 wide, depths 2-2-9-2)".

    Raises:
        ValueError: If it has no block.
    """
    norm = state.get('layers.0.blocks.0.norm.weight')
    width = 'unknown' if norm is None else norm.shape[0]
    blocks = {match.groups() for key in state if (match := re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', key))}
    stages = [int(stage) for stage, _ in blocks]
    depths = tuple(stages.count(stage) for stage in sorted(set(stages)))
    if not depths:
        raise UserValueError('no block')
    variant = variant_of(variants, embed_dims=width, depths=depths)
    name = f'a LocalVMamba of arch {variant!r}' if variant else 'a LocalVMamba'
    return f'{name} ({width} wide, depths {"-".join(map(str, depths))})'


LAYOUT = Layout(
    name='LocalVMamba',
    fits=fits,
    sign=_SIGN,
    from_official=from_official,
    to_official=to_official,
    left_out=vmamba.LAYOUT.left_out,
    classifier=vmamba.LAYOUT.classifier,
    describe=describe,
)
