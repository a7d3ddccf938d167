"""Published weights on this machine: found in a folder, or downloaded whole, with checksums."""

import hashlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from mmvim.checkpoints.write import write_atomically

from .records import Model, OfficialFile

#: Keeps the checksums of what was downloaded; lies beside the weights.
CHECKSUMS = 'checksums.json'
_TIMEOUT = 30  # seconds without a byte


class Weights:
    """A folder of weights.

    Args:
        folder: Where they are looked for, and downloaded to.
        download: Whether what is missing may be downloaded.
    """

    def __init__(self, folder: str | Path, download: bool = True) -> None:
        self.folder = Path(folder)
        self.download = download
        self._unreachable: dict[str, str] = {}

    def has(self, model: Model) -> bool:
        """Whether there are weights for a model: published ones, or somebody's own in the folder."""
        return model.weights is not None or self._own(model).is_file()

    def obtain(self, model: Model) -> tuple[Path, str]:
        """The file of a model, downloaded if need be, and its SHA-256.

        A file ``<name of the model>.pth`` in the folder goes before the published one.

        Raises:
            FileNotFoundError: If it is not there and cannot be downloaded.
            ValueError: If it is not the file that was published, or that was downloaded the first time.
        """
        if self._own(model).is_file():
            return self._own(model), sha256(self._own(model))
        file = model.weights
        if file is None:
            raise FileNotFoundError(f'no weights of {model.name} were published: put your own into {self._own(model)}')
        path = self.folder / file.name
        if not path.is_file():
            self._fetch(file, path)
        checksum = sha256(path)
        self._compare(file, path, checksum)
        return path, checksum

    def _own(self, model: Model) -> Path:
        return self.folder / f'{model.name}.pth'

    def _fetch(self, file: OfficialFile, path: Path) -> None:
        host = urlparse(file.address).netloc
        by_hand = f'download it from {file.page} and put it into {self.folder}/'
        if not self.download:
            raise FileNotFoundError(f'{path} is missing: {by_hand}, or leave --no-download out')
        if host in self._unreachable:
            raise FileNotFoundError(f'{path} is missing, and {host} {self._unreachable[host]}: {by_hand}')
        try:
            checksum, size = fetch(file.address, path)
        except HTTPError as error:
            raise FileNotFoundError(f'{file.address} answers {error.code} {error.reason}: {by_hand}') from error
        except (URLError, TimeoutError) as error:
            self._unreachable[host] = f'cannot be reached ({getattr(error, "reason", error)})'
            raise FileNotFoundError(f'{path} is missing, and {host} {self._unreachable[host]}: {by_hand}') from error
        if file.sha256 is None:
            when = datetime.now().isoformat(timespec='seconds')
            entry = {'sha256': checksum, 'bytes': size, 'address': file.address, 'downloaded': when}
            write_atomically(self._list, (json.dumps(self._recorded() | {file.name: entry}, indent=2) + '\n').encode())

    @property
    def _list(self) -> Path:
        return self.folder / CHECKSUMS

    def _recorded(self) -> dict[str, dict]:
        return json.loads(self._list.read_text()) if self._list.is_file() else {}

    def _compare(self, file: OfficialFile, path: Path, checksum: str) -> None:
        expected, of = file.sha256, 'published'
        if expected is None and file.name in self._recorded():
            expected, of = self._recorded()[file.name]['sha256'], 'recorded when it was downloaded'
        if expected not in (None, checksum):
            raise ValueError(
                f'{path} is damaged or another file: its SHA-256 is {checksum}, {of} is {expected}; delete it and '
                'start again to download it anew'
            )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    found = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def fetch(address: str, path: Path) -> tuple[str, int]:
    """Download a file; ``path`` appears when all of it has arrived.

    Args:
        address: Of the file.
        path: Where it is put; until then its bytes are in ``path`` + ``.part``, which is removed if anything fails.

    Returns:
        SHA-256 and size in bytes.

    Raises:
        HTTPError, URLError, TimeoutError: If there is no answer, another one, or the connection breaks.
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    found, size = hashlib.sha256(), 0
    columns = ('{task.description}', BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    print(f'downloading {address}', file=sys.stderr)
    try:
        with (
            urlopen(Request(address, headers={'User-Agent': 'mmvim'}), timeout=_TIMEOUT) as answer,
            part.open('wb') as file,
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
            file.flush()
            os.fsync(file.fileno())
        if total is not None and size != total:
            raise URLError(f'the connection broke after {size} of {total} bytes')
        os.replace(part, path)
    except ConnectionError as error:
        raise URLError(f'the connection broke after {size} bytes ({error})') from error
    finally:
        part.unlink(missing_ok=True)
    return found.hexdigest(), size
