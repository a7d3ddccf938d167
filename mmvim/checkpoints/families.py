"""Which family a state dict belongs to, by its names, and what that means for it."""

import re
from collections.abc import Mapping

from torch import Tensor

from mmvim.errors import UserValueError

from .layouts import LAYOUTS, Layout

# Of models that are no family here.
_SIGNS = (
    ('Mamba with one direction', r'layers\.\d+\.mixer\.A_log$'),
    ('Swin Transformer', r'relative_position_bias_table$'),
    ('DeiT or another vision transformer', r'(blocks|layers)\.\d+\.(attn|self_attn|self_attention)\.'),
    ('ConvNeXt', r'(dwconv|depthwise_conv)\.weight$'),
    ('ResNet', r'layer\d\.\d+\.conv1\.weight$'),
)


def family_of(state: Mapping[str, Tensor]) -> Layout | None:
    """The family that the names of a state dict belong to, whatever the layout and prefix."""
    return next((layout for layout in LAYOUTS if layout.fits(state)), None)


def name_of(state: Mapping[str, Tensor]) -> str:
    """The name of the model that a state dict seems to hold, for messages."""
    family = family_of(state)
    if family is not None:
        return family.name
    for name, sign in _SIGNS:
        if any(re.search(sign, key) for key in state):
            return name
    return 'a model that is not known here'


def roots_of(state: Mapping[str, Tensor]) -> dict[str, Layout]:
    """Where models of known families stand in a state dict: what is in front of their names, with the family.

    In front of ``backbone.``, if that is there: a whole segmentor stands at its own root.
    """
    roots: dict[str, Layout] = {}
    for layout in LAYOUTS:
        signs = (layout.sign.fullmatch(key) for key in state) if layout.sign else ()
        for root in {match['root'] for match in signs if match} - set(roots):
            if layout.fits(_behind(root, state)):
                roots[root] = layout
    return roots


def _behind(root: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(root): tensor for key, tensor in state.items() if key.startswith(root)}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in our layout, whichever family's it is; unknown ones stay as they are.

    Names may stand behind any prefixes, which stay.
    """
    roots = roots_of(state)
    if not roots:
        family = family_of(state)
        return family.from_official(state) if family else dict(state)
    converted, rest = {}, dict(state)
    for root in sorted(roots, key=len, reverse=True):  # the teacher's before those of what it is in
        behind = _behind(root, rest)
        rest = {key: tensor for key, tensor in rest.items() if not key.startswith(root)}
        converted.update((root + key, tensor) for key, tensor in roots[root].from_official(behind).items())
    return converted | rest


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in the layout of its official repository.

    Raises:
        ValueError: if it belongs to no family known here.
    """
    family = family_of(state)
    if family is None:
        known = ', '.join(layout.name for layout in LAYOUTS)
        raise UserValueError(f'there is no official layout for {name_of(state)}: known are {known}')
    return family.to_official(state)
