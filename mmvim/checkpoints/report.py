"""What became of the tensors of a checkpoint, in one line."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 4
_LETTERS = 200


@dataclass
class Report:
    """The result of loading a checkpoint.

    Attributes:
        source: the file.
        what: what was to be filled, such as 'backbone'.
        matched: number of the model's tensors that came from the file.
        total: number of the model's tensors, those that are expected to be new excepted.
        left_out: tensors of the file that were not used, by name, with the reason.
        new: tensors of the model that keep their initial values, by name, with the reason.
        done: what else was done, in words.
    """

    source: str
    what: str
    matched: int = 0
    total: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f'{self.source}: {self.matched} of {self.total} {self.what} tensors matched', *self.done]
        if self.left_out:
            parts.append(f'left out: {by_reason(self.left_out)}')
        if self.new:
            parts.append(f'initialised anew: {by_reason(self.new, shown=len(self.new))}')
        return '; '.join(parts)


def by_reason(reasons: dict[str, str], shown: int = _SHOWN) -> str:
    """{name: reason} as 'a, b (reason), c (other reason)', with at most ``shown`` names for each reason."""
    names = defaultdict(list)
    for name, reason in reasons.items():
        names[reason].append(name)
    return ', '.join(f'{shorten(group, shown)} ({reason})' for reason, group in names.items())


def shorten(names: Iterable[str], shown: int = _SHOWN) -> str:
    """The first few names, and how many more there are."""
    names = [name if len(name) <= _LETTERS and name.isprintable() else repr(name[:_LETTERS]) for name in names]
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more
