"""Names that somebody probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that resemble another, the nearest first; none if none does."""
    return get_close_matches(name, sorted(known), count, 0.5)


def slip_of(name: str, known: Iterable[str]) -> str | None:
    """The known name that another is so near to that it can hardly be a new one; None if there is none."""
    return next(iter(get_close_matches(name, sorted(known), 1, 0.75)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that says there is no such name: the nearest ones, or nothing."""
    found = nearest(name, known)
    return f'; nearest: {", ".join(found)}' if found else ''
