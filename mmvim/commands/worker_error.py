"""What went wrong in a process that loads data, in one sentence."""

import re

_CAUGHT = re.compile(r'Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback', re.S)
_FRAME = re.compile(r'File "(.*?)", line (\d+), in')


def worker_sentence(error: Exception) -> str | None:
    """The last line of a worker's traceback, and where it came from.

    Args:
        error: Any; torch hands on that of a worker with the whole traceback for its text.

    Returns:
        None if it is not of a worker.
    """
    said = str(error)
    caught = _CAUGHT.search(said)
    if caught is None:
        return None
    text = said[said.rindex(f'{caught[1]}: ') :] if f'{caught[1]}: ' in said else caught[1]
    *_, (file, line) = _FRAME.findall(said) or [('?', '?')]
    return f'Data could not be loaded: {" ".join(text.split())} ({file}, line {line}; MMVIM_TRACEBACK=1 shows all)'
