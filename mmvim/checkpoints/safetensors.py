"""Files of safetensors, one or several with an index: a header of names, shapes and places, and the bytes."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mmvim.errors import UserModuleNotFoundError, UserValueError

#: Bytes of a header and of an index; those of a billion parameters have a thousandth.
MAX_HEADER = 16 << 20
MAX_SHARDS = 1_000
SUFFIX = '.safetensors'
INDEX = '.index.json'
_LENGTH = 8  # bytes of the header's length
_META = 'dataset_meta'


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that begins so is one of safetensors: JSON behind its length."""
    return start[_LENGTH : _LENGTH + 1] == b'{' and int.from_bytes(start[:_LENGTH], 'little') <= size - _LENGTH


def load_safetensors(file: BinaryIO, size: int, map_location: Any) -> dict[str, Any]:
    """Read an open file.

    Args:
        file: At its beginning.
        size: Its bytes.
        map_location: A device; what else ``torch.load`` takes means the CPU.

    Returns:
        ``state_dict`` and, where :func:`dump_safetensors` put it there, ``meta``.

    Raises:
        ModuleNotFoundError: If safetensors is not installed.
        ValueError: If the header is too long.
        Exception: Of many kinds, if it is damaged.
    """
    library = _library(str(getattr(file, 'name', 'a file')))
    length = int.from_bytes(file.read(_LENGTH), 'little')
    if length > MAX_HEADER:
        raise UserValueError(f'a header of {length} bytes, more than {MAX_HEADER}')
    header = json.loads(file.read(length))
    file.seek(0)
    state = library.load(file.read(size))
    device = map_location if isinstance(map_location, (str, torch.device)) else 'cpu'
    checkpoint: dict[str, Any] = {'state_dict': {key: tensor.to(device) for key, tensor in state.items()}}
    metadata = header.get('__metadata__') or {}
    if _META in metadata:
        checkpoint['meta'] = {_META: json.loads(metadata[_META])}
    return checkpoint


def dump_safetensors(state: Mapping[str, Tensor], meta: Mapping[str, Any], target: Path) -> bytes:
    """The bytes of a file with tensors, and with names and colours of classes in its metadata.

    Raises:
        ModuleNotFoundError: If safetensors is not installed.
        ValueError: If a tensor has a dtype that the format has not.
    """
    library = _library(str(target))
    metadata = {'format': 'pt'} | ({_META: json.dumps(dict(meta))} if meta else {})
    # A storage stands for one tensor in this format; two names of one tensor become two.
    places: set[int] = set()
    alone = {}
    for key, tensor in state.items():
        alone[key] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    try:
        return library.save(alone, metadata)
    except (KeyError, ValueError) as error:
        raise UserValueError(f'{target}: safetensors cannot hold these tensors ({error}); write a .pth') from error


def load_index(path: Path, read_part: Callable[[Path], dict[str, Tensor]]) -> dict[str, Any]:
    """Read all files that an index names, which lie beside it.

    Args:
        path: The index, ``*.index.json``.
        read_part: Gives the tensors of one of its files.

    Raises:
        ValueError: If it is no index, or a file or a tensor of it is missing.
    """
    if path.stat().st_size > MAX_HEADER:
        raise UserValueError(f'{path} has more than {MAX_HEADER} bytes, too many for an index of weights')
    try:
        places = json.loads(path.read_text())['weight_map']
        parts = sorted(set(places.values()))
        plain = all(os.path.basename(part) == part and not part.endswith(INDEX) for part in parts)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserValueError(f'{path} is no index of weights: expected names of files under weight_map') from error
    if not plain or not 0 < len(parts) <= MAX_SHARDS:
        raise UserValueError(f'{path} is no index of weights: expected 1 to {MAX_SHARDS} names of files beside it')
    absent = [part for part in parts if not (path.parent / part).is_file()]
    if absent:
        missing = f'{len(absent)} of its {len(parts)} files are missing beside it, such as {absent[0]}'
        raise UserValueError(f'{path}: {missing}')
    state: dict[str, Tensor] = {}
    for part in parts:
        tensors = read_part(path.parent / part)
        missing = [key for key, place in places.items() if place == part and key not in tensors]
        if missing:
            raise UserValueError(f'{path}: {missing[0][:200]} is not in {part}')
        state.update((key, tensors[key]) for key in tensors if places.get(key) == part)
    return {'state_dict': state}


def _library(name: str) -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserModuleNotFoundError(f'{name} needs the package safetensors: pip install safetensors') from error
    return safetensors.torch
