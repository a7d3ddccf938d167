"""Writing files that are whole or not there."""

import os
from pathlib import Path

TEMPORARY = '.tmp'


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file such that ``path`` is, at any moment, either what it was before or complete.

    The content goes to ``path`` + ``.tmp`` in the same folder, reaches the disk, and is then renamed.

    Raises:
        OSError: If it cannot be written (disk full, for one); ``path`` is as before and nothing is left beside it.
    """
    path = os.fspath(path)
    temporary = path + TEMPORARY
    try:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    if os.name == 'posix':  # elsewhere a folder cannot be opened
        folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
