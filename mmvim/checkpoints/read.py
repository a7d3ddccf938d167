"""Reading checkpoints without running code from them."""

import os
from pathlib import Path
from typing import Any

from mmvim.errors import UserModuleNotFoundError, UserRuntimeError, UserValueError

from .builders import Foreign, Refused
from .fetch import locate
from .formats import TorchScript, load
from .safetensors import INDEX, is_safetensors, load_index, load_safetensors
from .weights import find_weights

_OTHER_FILES = (
    (b'\xff\xd8\xff', 'a JPEG image'),
    (b'\x89PNG', 'a PNG image'),
    (b'<', 'an HTML or XML page, such as the error page of a download'),
    (b'version https://git-lfs', 'a Git LFS pointer, not the file it points to'),
    (b'\x1f\x8b', 'a gzip archive: unpack it first'),
)
_SHOWN = 200  # letters of what a file or its name brings into a message


def read(source: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint; no code from the file runs.

    Tensors, plain containers, numpy arrays, and the history buffers of mmengine come back as they were saved, without
    hooks and attributes. Objects of any other class become inert :class:`~mmvim.checkpoints.builders.Foreign` objects.
    Both of torch's formats are read, and that of safetensors, whose content comes under ``state_dict``.

    What a file says about its own size is not believed: containers neither contain themselves nor unfold to much more
    than they are, and no tensor has elements that the file has not, except for expanded ones of at most 64 MiB.

    Args:
        source: a path, a name in ``weights/``, or an ``http(s)://`` address; how it is found: :func:`.fetch.locate`.
            Of torch, of safetensors, or an index (``*.index.json``) of either.
        map_location: as in ``torch.load``.

    Returns:
        The dict that was saved.

    Raises:
        FileNotFoundError: if there is no such file and it cannot be downloaded.
        ModuleNotFoundError: if it is one of safetensors, and that is not installed.
        ValueError: if it is a folder, empty, no checkpoint, or may not be read.
        RuntimeError: if it is damaged, out of proportion, larger than the memory, or asks to run something.
    """
    path = _located(source)
    if path.name.endswith(INDEX):
        return load_index(path, lambda part: find_weights(_read_file(part, map_location)).state)
    return _read_file(path, map_location)


def _read_file(path: Path, map_location: Any) -> dict:
    try:
        file = path.open('rb', buffering=0)  # storages are read in one piece
    except OSError as error:
        raise UserValueError(f'{path} cannot be read: {error.strerror}') from error
    with file:
        size, start = path.stat().st_size, file.read(512)
        safe = is_safetensors(start, size)
        if not safe:
            _check_kind(path, start)
        file.seek(0)
        try:
            checkpoint = load_safetensors(file, size, map_location) if safe else load(file, map_location)
        except UserModuleNotFoundError:
            raise
        except TorchScript:
            raise UserRuntimeError(
                f'{path} was refused: it is a TorchScript program, and loading runs it; save model.state_dict() instead'
            ) from None
        except Refused as refused:
            raise UserRuntimeError(
                f'{path} was refused: it asks to run {refused}, and nothing of it was run; get the weights from a '
                'source that you trust, saved as a plain state dict'
            ) from None
        except MemoryError:
            raise UserRuntimeError(f'{path} ({path.stat().st_size} bytes) takes more memory than there is') from None
        except Exception as error:  # a damaged file may mislead the reader anywhere
            reason = ' '.join(str(error).strip().partition('\n')[0].split())[:_SHOWN] or type(error).__name__
            raise UserRuntimeError(
                f'{path} ({path.stat().st_size} bytes) is truncated, damaged or no checkpoint of torch ({reason}): '
                'delete it and copy or download it again'
            ) from error
    if not isinstance(checkpoint, dict):
        kind = checkpoint.origin if isinstance(checkpoint, Foreign) else type(checkpoint).__name__
        raise UserValueError(
            f'{path} holds an object of {kind}, not a dict of weights: save model.state_dict() instead'
        )
    return checkpoint


def _located(source: str | os.PathLike) -> Path:
    try:
        return locate(source)
    except FileNotFoundError:
        raise
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise UserValueError(f'{str(source)[:_SHOWN]} cannot be read: {error.strerror}') from error


def _check_kind(path: Path, start: bytes) -> None:
    """Tell what is no checkpoint at all."""
    if not start:
        raise UserValueError(f'{path} is empty: copy or download it again')
    for sign, kind in _OTHER_FILES:
        if start.lstrip().startswith(sign):
            raise UserValueError(f'{path} is no checkpoint, it is {kind}')
    if start[257:262] == b'ustar':
        raise UserValueError(f'{path} is a tar archive, not a checkpoint: unpack it and name the file in it')
