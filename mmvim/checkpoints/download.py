"""Downloading a file so that it is there whole or not at all."""

import hashlib
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from mmvim.files import replacing

_TIMEOUT = 30  # seconds without a byte


def download(address: str, path: Path) -> tuple[str, int]:
    """Download a file; ``path`` appears when all of it has arrived.

    Args:
        address: Of the file.
        path: Where it is put; until then its bytes are in a file beside it, which is removed if anything fails.

    Returns:
        SHA-256 and size in bytes.

    Raises:
        HTTPError, URLError, TimeoutError: If there is no answer, another one, or the connection breaks.
        OSError: If the file cannot be written.
    """
    # Not above: whoever loads models with torch alone downloads nothing.
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    path.parent.mkdir(parents=True, exist_ok=True)
    found, size = hashlib.sha256(), 0
    columns = ('{task.description}', BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    print(f'downloading {address}', file=sys.stderr)
    try:
        with (
            urlopen(Request(address, headers={'User-Agent': 'mmvim'}), timeout=_TIMEOUT) as answer,
            replacing(path, shared=True) as draft,
            draft.open('wb') as file,
            Progress(*columns, disable=not sys.stderr.isatty()) as progress,
        ):
            length = answer.headers.get('Content-Length')
            total = None if length is None else int(length)
            task = progress.add_task(path.name, total=total)
            while block := answer.read(1 << 20):
                file.write(block)
                found.update(block)
                size += len(block)
                progress.update(task, completed=size)
            if total is not None and size != total:
                raise URLError(f'the connection broke after {size} of {total} bytes')
    except ConnectionError as error:
        raise URLError(f'the connection broke after {size} bytes ({error})') from error
    return found.hexdigest(), size
