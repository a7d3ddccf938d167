"""Writing files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def draft_of(path: Path, owner: str = '') -> Path:
    """The name under which a file is written: hidden, beside it, with its ending, by which writers choose a format."""
    return path.with_name(f'.{path.name}{owner}.part{path.suffix}')


@contextmanager
def replacing(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """A name to write to; it becomes ``path`` when all went well, and otherwise nothing is left of it.

    At any moment, a loss of power included, ``path`` is what it was before or complete: what was written reaches the
    disk before it is renamed. Only a kill leaves the draft behind, for the next one to replace.

    Args:
        path: The file; its folder exists.
        shared: Whether other processes may write the same file at the same time: then each has a draft of its own.

    Raises:
        OSError: If it cannot be written (disk full, for one).
    """
    path = Path(path)
    draft = draft_of(path, f'.{os.getpid()}' if shared else '')
    try:
        yield draft
        with draft.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == 'posix':  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file, and its folder if need be, such that it is there whole or not at all; see :func:`replacing`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
