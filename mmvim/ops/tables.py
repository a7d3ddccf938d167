"""Tables of walks: each is checked once, and copied to a device once.

A copy in every call would wait, and break CUDA graphs. What is known of a table is forgotten with it, and with every
change of it in place.
"""

import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .walks import Walks, check_table, plain_tensors


@dataclass
class _Known:
    table: weakref.ref
    version: int
    grid: tuple[int, int]
    copies: dict[torch.device, Tensor] = field(default_factory=dict)


_KNOWN: dict[int, _Known] = {}  # by identity: a lookup in every call has to be quick


def check(walks: Walks) -> None:
    """Hold a table against its grid, unless that was done since it was changed last.

    Raises:
        ValueError: If it leaves the grid, or a walk visits a token twice.
    """
    if walks.table is not None and not torch.compiler.is_compiling():
        _known(walks)


def on_device(walks: Walks, like: Tensor) -> Tensor | None:
    """The table where ``like`` is. Under a tracer nothing is checked: the operators look at what they get."""
    table = walks.table
    if table is None:
        return None
    if torch.compiler.is_compiling():
        return table.to(like.device)
    known = _known(walks)
    if table.device == like.device:
        return table
    copy = known.copies.get(like.device)
    if copy is None:
        copy = table.to(like.device)
        if type(copy) is Tensor:  # not one of a tracer
            known.copies[like.device] = copy
    return copy


def _known(walks: Walks) -> _Known:
    table, key = walks.table, id(walks.table)
    known = _KNOWN.get(key)
    if known is None or known.table() is not table or known.grid != (walks.height, walks.width):
        known = None
    if known is None or table.is_inference() or known.version != table._version:
        known = _Known(weakref.ref(table, lambda _: _KNOWN.pop(key, None)), 0, (walks.height, walks.width))
        if type(table) is not Tensor or table.is_meta:  # there are no values, and nothing to remember
            return known
        with plain_tensors():
            check_table(table, *known.grid)
        if not table.is_inference():  # those of inference mode do not count their changes
            known.version = table._version
            _KNOWN[key] = known
    return known
