"""From a checkpoint of any layout to a plain file."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmvim.errors import UserFileExistsError, UserFileNotFoundError, UserValueError
from mmvim.files import write_whole

from .class_names import plain_meta
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
        ValueError, RuntimeError: as ``read``; if there are no weights; if there is no official layout for them; if
            names or colours of the classes are something else.
    """
    if to not in LAYOUTS:
        raise UserValueError(f'to={to!r}: expected one of {", ".join(LAYOUTS)}')
    target = Path(target)
    try:
        exists = target.exists()
    except OSError as error:
        raise UserValueError(f'{str(target)[:200]} cannot be written: {error.strerror}') from error
    if exists and (target.is_dir() or not force):
        raise UserFileExistsError(
            f'{target} exists: choose another name' + ('' if target.is_dir() else ' or give --force')
        )
    if not target.parent.is_dir():
        raise UserFileNotFoundError(f'there is no folder {target.parent} to write {target.name} into')
    checkpoint = read(source)
    try:
        found = state_dict_of(checkpoint)
        ours = from_official(found)
        state = ours if to == 'ours' else to_official(ours)
        meta = plain_meta(checkpoint)
    except ValueError as error:
        raise UserValueError(f'{source}: {error}') from error
    except (RuntimeError, IndexError) as error:  # of torch
        raise UserValueError(f'{source}: its tensors have not the shapes that their names promise') from error
    state = {key: _alone(tensor) for key, tensor in state.items()}
    content: dict[str, Any] = (
        {'state_dict': state, 'meta': {'dataset_meta': meta} if meta else {}} if to == 'ours' else {'model': state}
    )
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(target, buffer.getvalue())
    family = family_of(state)
    kind = f'{family.name}, layout: {to}' if family else 'of no known family, names unchanged'
    size = buffer.tell() / 1e6
    return f'{source}: {len(found)} tensors -> {target}: {len(state)} tensors ({kind}), {size:.1f} MB'


def _alone(tensor: Tensor) -> Tensor:
    """A tensor that brings nothing but itself into a file; a view would bring the whole of what it looks at."""
    tensor = tensor.detach()
    if tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes():
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)
