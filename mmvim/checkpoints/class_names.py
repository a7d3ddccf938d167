"""Names and colours of classes that a checkpoint brings, which are lists of texts and of colours or an error."""

from collections.abc import Mapping
from typing import Any

from mmvim.errors import UserValueError

#: The largest data sets name 22,000 classes.
MAX_CLASSES = 100_000
MAX_LETTERS = 1_000


def class_names(value: Any) -> list[str]:
    """Check names of classes.

    Raises:
        ValueError: if they are no flat list of texts, or too many, or too long.
    """
    if not isinstance(value, (list, tuple)) or len(value) > MAX_CLASSES or not all(map(_is_name, value)):
        raise UserValueError(
            f'its names of classes are no flat list of texts, {MAX_CLASSES} at most of {MAX_LETTERS} letters at most'
        )
    return list(value)


def colours(value: Any) -> list[tuple[int, int, int]]:
    """Check colours of classes, RGB.

    Raises:
        ValueError: if they are no flat list of three numbers each from 0 to 255, or too many.
    """
    if not isinstance(value, (list, tuple)) or len(value) > MAX_CLASSES or not all(map(_is_colour, value)):
        raise UserValueError('its colours of classes are no flat list of three numbers each, 0 to 255')
    return [tuple(colour) for colour in value]


def plain_meta(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What inferencers read of a checkpoint's ``dataset_meta``, as far as it is plain: its names, colours and texts.

    Raises:
        ValueError: if there are names or colours in it that are lists of something else.
    """
    meta = checkpoint.get('meta')
    stored = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    plain: dict[str, Any] = {}
    for key, value in stored.items() if isinstance(stored, Mapping) else ():
        if not _is_name(key):
            continue
        checked = {'classes': class_names, 'palette': colours}.get(key.lower())
        if checked and isinstance(value, (list, tuple)):
            checked(value)
        elif not _is_scalar(value):
            continue
        plain[key] = value
    return plain


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LETTERS


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or _is_name(value)


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(isinstance(part, int) and 0 <= part <= 255 for part in value)
    )
