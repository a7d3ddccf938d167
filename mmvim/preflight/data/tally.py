"""Faults of data, counted by kind, with the first places where each was seen."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

#: Places that are named for each kind of fault.
NAMED = 10


class Severity(Enum):
    """What a fault means for checking and for training.

    ``ERROR``: cannot be trained on. ``LEFT_OUT``: training goes on without the annotation or image concerned, and the
    check fails. ``WARNING``: probably not what was meant. ``NOTE``: worth knowing, such as values that were filled in.
    """

    ERROR = 'error'
    LEFT_OUT = 'left out'
    WARNING = 'warning'
    NOTE = 'note'

    @property
    def fails_check(self) -> bool:
        return self in (Severity.ERROR, Severity.LEFT_OUT)


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        severity: What it means.
        what: What is wrong, for a table, in a few words: ``'boxes of no width or height'``.
        remedy: What to do about it, in one sentence.
    """

    severity: Severity
    what: str
    remedy: str


@dataclass
class Seen:
    """How often one kind of fault was seen, and where first (at most :data:`NAMED` places)."""

    count: int = 0
    places: list[str] = field(default_factory=list)


class Tally:
    """Faults counted by kind, in the order in which kinds were first seen."""

    def __init__(self) -> None:
        self._seen: dict[Kind, Seen] = {}

    def add(self, kind: Kind, place: str, count: int = 1) -> None:
        """Count a fault ``count`` times, seen at ``place`` (a file, with the id of an annotation if there is one)."""
        seen = self._seen.setdefault(kind, Seen())
        seen.count += count
        if len(seen.places) < NAMED:
            seen.places.append(place)

    def merge(self, other: 'Tally') -> None:
        """Add what another tally has counted, such as that of another process."""
        for kind, seen in other:
            mine = self._seen.setdefault(kind, Seen())
            mine.count += seen.count
            mine.places = [*mine.places, *seen.places][:NAMED]

    def __iter__(self) -> Iterator[tuple[Kind, Seen]]:
        return iter(self._seen.items())

    def __getitem__(self, kind: Kind) -> Seen:
        return self._seen.get(kind, Seen())

    @property
    def fails_check(self) -> bool:
        return any(kind.severity.fails_check for kind in self._seen)
