"""Whole classifiers: the names in a published file and those in :class:`mmvim.models.ImageClassifier`."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from .families import family_of

_BACKBONE = 'backbone.'


def from_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a classifier, in the layout of their family, with the names that an ``ImageClassifier`` has.

    Checkpoints of an ``ImageClassifier`` and of models that are none of ours stay as they are.
    """
    family = family_of(state)
    if family is None or any(key.startswith(_BACKBONE) for key in state):
        return dict(state)
    names = family.classifier
    return {_renamed(key, names, _BACKBONE + key): tensor for key, tensor in state.items()}


def to_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_classifier`."""
    names = [(new, old) for old, new in family_of(state).classifier]
    return {_renamed(key, names, key.removeprefix(_BACKBONE)): tensor for key, tensor in state.items()}


def _renamed(key: str, names: Sequence[tuple[str, str]], otherwise: str) -> str:
    pair = next((pair for pair in names if key.startswith(pair[0])), None)
    return otherwise if pair is None else pair[1] + key.removeprefix(pair[0])
