"""What went wrong where data is loaded, in one sentence."""

import re

_CAUGHT = re.compile(r'Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback', re.S)
_UNREADABLE = 'failed to load image: '  # mmcv's words
_FRAME = re.compile(r'File "(.*?)", line (\d+), in')


def worker_sentence(error: Exception) -> str | None:
    """The last line of a worker's traceback, and where it came from; or, without workers, which image cannot be read.

    Args:
        error: Any; torch hands on that of a worker with the whole traceback for its text.

    Returns:
        None if it is neither.
    """
    said = str(error)
    caught = _CAUGHT.search(said)
    if caught is None:
        if isinstance(error, AssertionError) and said.startswith(_UNREADABLE):
            return f'Data could not be loaded: {said}; it is damaged or no image: replace or remove it'
        return None
    text = said[said.rindex(f'{caught[1]}: ') :] if f'{caught[1]}: ' in said else caught[1]
    *_, (file, line) = _FRAME.findall(said) or [('?', '?')]
    return f'Data could not be loaded: {" ".join(text.split())} ({file}, line {line}; MMVIM_TRACEBACK=1 shows all)'
