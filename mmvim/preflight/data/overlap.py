"""Images of validation that are also trained on."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .tally import Kind, Severity, Tally

OVERLAP = Kind(
    Severity.WARNING,
    'images of validation that are trained on as well',
    'take them out of one of the two: what is measured on them says nothing about new images.',
)


def check_overlap(train: Iterable[str], other: Iterable[str], tally: Tally, contents: bool = False) -> None:
    """Find images of validation or test that are also among those of training.

    Args:
        train, other: The images.
        tally: Takes the faults.
        contents: Also find copies, under any name; reads those files whose lengths agree.
    """
    real_folder = lru_cache(maxsize=None)(os.path.realpath)  # not of each file: there are many in few folders

    def real(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(real_folder(folder), name)

    trained = {real(path) for path in train}
    rest = []
    for path in other:
        if real(path) in trained:
            tally.add(OVERLAP, path)
        else:
            rest.append(path)
    if contents:
        _copies(trained, rest, tally)


def _copies(train: set[str], other: list[str], tally: Tally) -> None:
    by_length: dict[int, list[str]] = defaultdict(list)
    for path in sorted(train):
        if os.path.isfile(path):
            by_length[os.path.getsize(path)].append(path)
    digests: dict[str, bytes] = {}
    for path in other:
        if not os.path.isfile(path):
            continue
        for candidate in by_length.get(os.path.getsize(path), ()):
            if _digest(path, digests) == _digest(candidate, digests):
                tally.add(OVERLAP, f'{path} (a copy of {candidate})')
                break


def _digest(path: str, known: dict[str, bytes]) -> bytes:
    if path not in known:
        known[path] = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    return known[path]
