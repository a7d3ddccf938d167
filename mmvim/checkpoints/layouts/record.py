"""What is known of the names in a family's files."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


def _unnamed(state: State, variants: Mapping[str, Mapping[str, Any]]) -> str:
    return f'one of {len(state)} tensors'


@dataclass(frozen=True)
class Layout:
    """The names that a family's tensors have in published files and in ours. Functions of state dicts, no model.

    Attributes:
        name: Of the family, for messages; that of its class.
        fits: Whether names are those of this family, in any of its layouts and behind any prefix.
        sign: Names that only this family has, any of which shows where its models stand in a file: the group ``root``
            is what stands in front of the names that ``from_official`` knows. None if it finds that out itself.
        from_official: A state dict of a published file, of a classifier, a dense backbone or a whole segmentor or
            detector, in our layout; one in ours stays as it is. A ``ValueError`` says why that cannot be.
        to_official: The inverse, in the layout of the official repository as it is now.
        left_out: What a file may hold beyond a backbone, as patterns of the beginning of a name -> why it is left out.
        classifier: What a name in our layout of a classifier begins with, and what that of
            :class:`mmvim.models.ImageClassifier` begins with instead. The first that fits holds; all other tensors
            are the backbone's.
        describe: Says which variant a backbone's state dict (our layout, no prefix) belongs to, given the numbers of
            the variants by name (``arch_zoo`` of the backbone).
    """

    name: str
    fits: Callable[[State], bool]
    sign: re.Pattern | None = None
    from_official: Callable[[State], dict[str, Tensor]] = dict
    to_official: Callable[[State], dict[str, Tensor]] = dict
    left_out: Mapping[str, str] = field(default_factory=dict)
    classifier: tuple[tuple[str, str], ...] = ()
    describe: Callable[[State, Mapping[str, Mapping[str, Any]]], str] = _unnamed


def variant_of(variants: Mapping[str, Mapping[str, Any]], **numbers: Any) -> str | None:
    """The most explicit name of the variant that has these numbers; what a variant does not name is False."""
    fitting = [
        name
        for name, variant in variants.items()
        if all(variant.get(key, False) == number for key, number in numbers.items())
    ]
    return max(fitting, key=len, default=None)
