"""Reading checkpoints without running code from them."""

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from . import unpickle
from .fetch import locate

_OTHER_FILES = (
    (b'\xff\xd8\xff', 'a JPEG image'),
    (b'\x89PNG', 'a PNG image'),
    (b'<', 'an HTML or XML page, such as the error page of a download'),
    (b'version https://git-lfs', 'a Git LFS pointer, not the file it points to'),
    (b'\x1f\x8b', 'a gzip archive: unpack it first'),
)


def read(source: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint; no code from the file runs.

    Tensors, plain containers, numpy arrays, and the history buffers of mmengine come back as they were saved. Objects
    of any other class become inert :class:`~mmvim.checkpoints.unpickle.Foreign` objects. Both of torch's formats are
    read.

    Args:
        source: a path, a name in ``weights/``, or an ``http(s)://`` address; how it is found: :func:`.fetch.locate`.
        map_location: as in ``torch.load``.

    Returns:
        The dict that was saved.

    Raises:
        FileNotFoundError: if there is no such file and it cannot be downloaded.
        ValueError: if it is a folder, empty, or no checkpoint.
        RuntimeError: if it is damaged, or asks to run something.
    """
    if os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0').lower() in ('1', 'y', 'yes', 'true'):
        raise RuntimeError('unset TORCH_FORCE_WEIGHTS_ONLY_LOAD: mmvim reads files safely itself, and it forbids that')
    path = locate(source)
    _check_kind(path)
    try:
        checkpoint = torch.load(
            str(path), map_location, weights_only=False, pickle_module=SimpleNamespace(**_PICKLE_MODULE)
        )
    except unpickle.Refused as refused:
        raise RuntimeError(
            f'{path} was refused: it asks to run {refused}, and nothing of it was run; get the weights from a source '
            'that you trust, saved as a plain state dict'
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # the formats have no common error for a damaged file
        raise _damaged(path, error) from error
    if not isinstance(checkpoint, dict):
        kind = checkpoint.origin if isinstance(checkpoint, unpickle.Foreign) else type(checkpoint).__name__
        raise ValueError(f'{path} holds an object of {kind}, not a dict of weights: save model.state_dict() instead')
    return checkpoint


_PICKLE_MODULE = {'__name__': unpickle.__name__, 'Unpickler': unpickle.Unpickler, 'load': unpickle.load}


def _check_kind(path: Path) -> None:
    """Tell what is no checkpoint at all, and what torch would treat by running it."""
    with path.open('rb') as file:
        start = file.read(64)
    if not start:
        raise ValueError(f'{path} is empty: copy or download it again')
    for sign, kind in _OTHER_FILES:
        if start.lstrip().startswith(sign):
            raise ValueError(f'{path} is no checkpoint, it is {kind}')
    if start.startswith(b'PK'):
        _refuse_torchscript(path)
    elif tarfile.is_tarfile(path):
        raise ValueError(f'{path} is a tar archive, not a checkpoint: unpack it and name the file in it')


def _refuse_torchscript(path: Path) -> None:
    # The same reader as torch.load's, for it is the one to be convinced.
    try:
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    if 'constants.pkl' in records:
        raise RuntimeError(
            f'{path} was refused: it is a TorchScript program, and loading runs it; save model.state_dict() instead'
        )


def _damaged(path: Path, error: Exception) -> RuntimeError:
    reason = str(error).strip().partition('\n')[0] or type(error).__name__
    return RuntimeError(
        f'{path} ({path.stat().st_size} bytes) is truncated, damaged or no checkpoint of torch ({reason}): '
        'delete it and copy or download it again'
    )
