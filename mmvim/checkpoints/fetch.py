"""From what stands in a config to a file on this machine."""

from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urlparse

import torch

from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.errors import UserFileNotFoundError, UserValueError

from .download import download

WEIGHTS = Path('weights')
_FROM_SCRATCH = '(without it: --cfg-options model.backbone.init_cfg=None; for a model of timm, pretrained=False)'


def locate(source: str | Path) -> Path:
    """Find the file of a checkpoint, downloading it if it is an address.

    A file name or the name at the end of an address is looked for in ``weights/`` too, so that a machine without a
    network needs no other config. Downloads go to torch's hub folder under a temporary name, are renamed when they
    are complete, and happen once.

    Args:
        source: a path, a bare file name, or an ``http(s)://`` address.

    Returns:
        The path of an existing file.

    Raises:
        FileNotFoundError: if there is no such file, or it cannot be downloaded; the message says where the official
            file lives, where to put it, and how to do without.
        ValueError: if the path is a folder, or an address of another kind.
    """
    text = str(source)
    if text.startswith(('http://', 'https://')):
        return _locate_address(text)
    if '://' in text:
        raise UserValueError(f'{text}: only files and http(s) addresses are read here; download it and give the path')
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserValueError(f'{path} is a folder: name the checkpoint in it, such as {path / "epoch_12.pth"}')
    if (WEIGHTS / path.name).is_file() and path.parent in (Path('.'), WEIGHTS):
        return WEIGHTS / path.name
    if path.name not in OFFICIAL_WEIGHTS:
        raise UserFileNotFoundError(f'no checkpoint at {path} (looked from {Path.cwd()})')
    raise UserFileNotFoundError(
        f'{path} is missing: download it from {OFFICIAL_WEIGHTS[path.name]} and put it into {WEIGHTS}/ under '
        f'{Path.cwd()} {_FROM_SCRATCH}'
    )


def find_downloaded(address: str) -> Path | None:
    """The file of an address if it is on this machine: in ``weights/``, or downloaded before."""
    return next((path for path in (WEIGHTS / _file_name(address), _cached(address)) if path.is_file()), None)


def _file_name(address: str) -> str:
    return Path(unquote(urlparse(address).path)).name


def _cached(address: str) -> Path:
    return Path(torch.hub.get_dir(), 'checkpoints', _file_name(address))


def _locate_address(address: str) -> Path:
    if not _file_name(address):
        raise UserValueError(f'{address} names no file: give the address of the checkpoint itself')
    found = find_downloaded(address)
    if found:
        return found
    cached = _cached(address)
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    try:
        if not together or torch.distributed.get_rank() == 0:
            _download(address, cached)
    finally:
        if together:
            torch.distributed.barrier()
    if not cached.is_file():  # another machine than that of the first process
        _download(address, cached)
    return cached


def _download(address: str, path: Path) -> None:
    try:
        download(address, path)
    except (URLError, OSError) as error:
        raise UserFileNotFoundError(
            f'{path.name} could not be downloaded from {address} ({error}): put the file into {WEIGHTS}/ under '
            f'{Path.cwd()} {_FROM_SCRATCH}'
        ) from error
