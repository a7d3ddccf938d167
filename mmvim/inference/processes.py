"""Several processes over one image, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import accumulate

import torch
import torch.distributed
from mmengine.dist import all_gather_object, get_rank, get_world_size

from mmvim.errors import UserRuntimeError

_DAYS = 30  # that a process waits for the others: windows are shared out evenly, processors may differ


def join_processes(device: str | None) -> str | None:
    """Make this process one of those that torchrun started.

    They exchange a few words only, through gloo, with or without GPUs.

    Returns:
        The device to use: ``device``, or the GPU whose turn it is.
    """
    torch.distributed.init_process_group('gloo', timeout=timedelta(days=_DAYS))
    if device is None and torch.cuda.is_available():
        device = f'cuda:{int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()}'
        torch.cuda.set_device(device)
    return device


@contextmanager
def together() -> Iterator[None]:
    """Wait at the end of a block until all processes are there; an error of one is an error of all.

    Raises:
        RuntimeError: in those that had none, with what was said.
    """
    caught: Exception | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001  raised below
        caught = error
    said = all_gather_object(None if caught is None else ' '.join(str(caught).split()))
    if caught is not None:
        raise caught
    for rank, text in enumerate(said):
        if text is not None:
            raise UserRuntimeError(f'process {rank} says: {text}')


def my_share(wanted: Sequence[int], cost: Sequence[float]) -> list[int]:
    """Which of these numbers are this process's: neighbours, of about the same cost for each process.

    Args:
        wanted: what is to be done, ascending.
        cost: of each.
    """
    rank, count = get_rank(), get_world_size()
    total = max(sum(cost), 1e-9)
    middles = (end - one / 2 for end, one in zip(accumulate(cost), cost, strict=True))
    owners = [min(int(middle * count / total), count - 1) for middle in middles]
    return [number for number, owner in zip(wanted, owners, strict=True) if owner == rank]


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours in ascending numbers: first, and one after the last."""
    begin = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[begin], numbers[index - 1] + 1
            begin = index
