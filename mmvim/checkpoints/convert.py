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
from .families import family_of, from_official, roots_of, to_official
from .read import read
from .report import shorten
from .safetensors import SUFFIX, dump_safetensors
from .weights import Weights, find_weights, without_wrappers

LAYOUTS = ('ours', 'official')


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    to: str = 'ours',
    force: bool = False,
    key: str | None = None,
    prefix: str | None = None,
) -> str:
    """Write the weights of a checkpoint, and nothing else but names and colours of its classes, to a file.

    Optimizer, configuration and objects of foreign classes are dropped, so that any safe reader takes the file. No
    tensor is left out. The file appears when it is complete.

    Args:
        source: as for :func:`~mmvim.checkpoints.read.read`.
        target: the file to write; in safetensors' format if it ends in ``.safetensors``, with the tensors alone.
        to: ``'ours'`` for the names of mmvim's models, under ``state_dict``; ``'official'`` for those of the
            published files, under ``model``.
        force: whether an existing file is replaced.
        key: where the weights are in the file, such as ``'model_ema'``; as for
            :func:`~mmvim.checkpoints.weights.find_weights`.
        prefix: what stands in front of the names that are wanted, such as ``'student.'``; others are left out. By
            default all are taken, without what stands in front of all of them.

    Returns:
        What was done, in one line.

    Raises:
        FileExistsError: if ``target`` exists.
        FileNotFoundError: if there is no ``source``, or no folder for ``target``.
        ValueError, RuntimeError: as ``read``; if there are no weights; if there is no official layout for them; if
            names or colours of the classes are something else.
        ModuleNotFoundError: if safetensors is needed and not installed.
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
        weights = find_weights(checkpoint, key)
        found = _behind(prefix, weights)
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
    if target.suffix == SUFFIX:
        written = dump_safetensors(state, meta, target)
    else:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        written = buffer.getvalue()
    write_whole(target, written)
    family = family_of(state)
    kind = f'{family.name}, layout: {to}' if family else 'of no known family, names unchanged'
    size = len(written) / 1e6
    notes = ''.join(f'; {note}' for note in weights.notes)
    return f'{source}: {len(found)} tensors -> {target}: {len(state)} tensors ({kind}), {size:.1f} MB{notes}'


def _behind(prefix: str | None, weights: Weights) -> dict[str, Tensor]:
    """The tensors behind a prefix, or behind that of a model of a known family that all of them have."""
    state, asked = weights.state, prefix is not None
    if prefix is None:
        root = next(iter(roots_of(state)), '')
        prefix = root if all(key.startswith(root) for key in state) else ''
    else:
        prefix = without_wrappers(prefix, weights)
    found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    if not found:
        raise UserValueError(f'no tensor under {prefix}; there are {shorten(state)}')
    roots = roots_of(found)
    others = tuple(filter(None, roots)) if asked and '' in roots else ()  # a teacher within the student
    return {key: tensor for key, tensor in found.items() if not key.startswith(others)}


def _alone(tensor: Tensor) -> Tensor:
    """A tensor that brings nothing but itself into a file; a view would bring the whole of what it looks at."""
    tensor = tensor.detach()
    if tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes():
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)
