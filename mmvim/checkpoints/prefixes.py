"""Behind which prefix the tensors of a model stand in a file."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from .report import shorten


class Several(Exception):
    """More than one prefix leads to a whole model.

    Args:
        prefixes: All of them.
    """

    def __init__(self, prefixes: list[str]) -> None:
        super().__init__(prefixes)
        self.prefixes = prefixes

    def __str__(self) -> str:
        return shorten((prefix or 'no prefix' for prefix in self.prefixes), len(self.prefixes))


def find_prefix(own: Collection[str], names: Iterable[str]) -> str | None:
    """The one prefix behind which all tensors of a model are in a file, or, if none has all, the most of them.

    Args:
        own: Names of the tensors that must be there.
        names: Names in the file.

    Returns:
        Such as ``'backbone.'`` or ``''``; None if no name in the file ends with one of the model's.

    Raises:
        Several: If all are there behind each of several prefixes, as student and teacher are.
    """
    counts = _counts(own, names)
    whole = _whole(own, counts)
    if len(whole) > 1:
        raise Several(whole)
    if whole:
        return whole[0]
    return min(counts, key=lambda front: (-counts[front], len(front)), default=None)


def whole_prefixes(own: Collection[str], names: Iterable[str]) -> list[str]:
    """All prefixes behind which all tensors of a model are; arguments as for :func:`find_prefix`."""
    return _whole(own, _counts(own, names))


def _counts(own: Collection[str], names: Iterable[str]) -> Counter[str]:
    own = set(own)
    return Counter(front for name in names for front, rest in _cuts(name) if rest in own)


def _whole(own: Collection[str], counts: Counter[str]) -> list[str]:
    return sorted(front for front, count in counts.items() if count == len(own))


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """All ways to cut a name in front of one of its parts."""
    at = 0
    while True:
        yield name[:at], name[at:]
        at = name.find('.', at) + 1
        if not at:
            return
