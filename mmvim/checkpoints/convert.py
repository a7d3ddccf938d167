"""From a checkpoint of any layout to a plain file."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmvim.files import write_whole

from .families import family_of, from_official, to_official
from .match import state_dict_of
from .read import read

LAYOUTS = ('ours', 'official')


def convert(source: str | os.PathLike, target: str | os.PathLike, to: str = 'ours', force: bool = False) -> str:
    """Write the weights of a checkpoint, and nothing else but names and colours of its classes, to a file.

    Optimizer, configuration and objects of foreign classes are dropped, so that any safe reader takes the file. No
    tensor is left out. The file appears when it is complete.

    Args:
        source: as for :func:`~mmvim.checkpoints.read.read`.
        target: the file to write.
        to: ``'ours'`` for the names of mmvim's models, under ``state_dict``; ``'official'`` for those of the
            published files, under ``model``.
        force: whether an existing file is replaced.

    Returns:
        What was done, in one line.

    Raises:
        FileExistsError: if ``target`` exists.
        FileNotFoundError: if there is no ``source``, or no folder for ``target``.
        ValueError, RuntimeError: as ``read``; if there are no weights; if there is no official layout for them.
    """
    if to not in LAYOUTS:
        raise ValueError(f'to={to!r}: expected one of {", ".join(LAYOUTS)}')
    target = Path(target)
    if target.exists() and (target.is_dir() or not force):
        raise FileExistsError(f'{target} exists: choose another name' + ('' if target.is_dir() else ' or give --force'))
    if not target.parent.is_dir():
        raise FileNotFoundError(f'there is no folder {target.parent} to write {target.name} into')
    checkpoint = read(source)
    found = state_dict_of(checkpoint)
    ours = from_official(found)
    state = ours if to == 'ours' else to_official(ours)
    # Copies, since a view would bring the whole of what it looks at into the file.
    state = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    content: dict[str, Any] = (
        {'state_dict': state, 'meta': _class_names(checkpoint)} if to == 'ours' else {'model': state}
    )
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(target, buffer.getvalue())
    family = family_of(state)
    kind = f'{family.name}, layout: {to}' if family else 'of no known family, names unchanged'
    size = buffer.tell() / 1e6
    return f'{source}: {len(found)} tensors -> {target}: {len(state)} tensors ({kind}), {size:.1f} MB'


def _class_names(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of ``meta`` that inferencers read, if there is one and it is plain."""
    meta = checkpoint.get('meta')
    names = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    return {'dataset_meta': names} if names and _is_plain(names) else {}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))
