"""Published weights on this machine: found in a folder, or downloaded whole, with checksums."""

import hashlib
import json
import sys
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

from mmvim.catalogue.records import Model, OfficialFile
from mmvim.checkpoints.download import download
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.files import write_whole

#: Keeps the checksums of what was downloaded; lies beside the weights.
CHECKSUMS = 'checksums.json'


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
            raise UserFileNotFoundError(
                f'no weights of {model.name} were published: put your own into {self._own(model)}'
            )
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
            raise UserFileNotFoundError(f'{path} is missing: {by_hand}, or leave --no-download out')
        if host in self._unreachable:
            raise UserFileNotFoundError(f'{path} is missing, and {host} {self._unreachable[host]}: {by_hand}')
        if file.terms:
            print(f'{file.name}: {file.terms}', file=sys.stderr)
        try:
            checksum, size = download(file.address, path)
        except HTTPError as error:
            raise UserFileNotFoundError(f'{file.address} answers {error.code} {error.reason}: {by_hand}') from error
        except (URLError, TimeoutError) as error:
            self._unreachable[host] = f'cannot be reached ({getattr(error, "reason", error)})'
            raise UserFileNotFoundError(
                f'{path} is missing, and {host} {self._unreachable[host]}: {by_hand}'
            ) from error
        if file.sha256 is None:
            when = datetime.now().isoformat(timespec='seconds')
            entry = {'sha256': checksum, 'bytes': size, 'address': file.address, 'downloaded': when}
            write_whole(self._list, json.dumps(self._recorded() | {file.name: entry}, indent=2) + '\n')

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
            raise UserValueError(
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
