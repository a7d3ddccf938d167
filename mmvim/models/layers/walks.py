"""Walks by name, as configs ask for them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from mmvim.errors import UserTypeError, UserValueError
from mmvim.names import hint
from mmvim.ops import Walks, walks

MakeWalks = Callable[[int, int], Walks]


def bidirectional(height: int, width: int) -> Walks:
    """Forward and backward over the tokens of a map, row by row."""
    return walks.bidirectional(height * width)


def rows(height: int, width: int) -> Walks:
    """Forward alone, row by row."""
    return walks.rows(height * width)


# To be extended by name: WALKS['mine'] = a function of height and width.
WALKS: dict[str, MakeWalks] = {
    'bidirectional': bidirectional,
    'cross': walks.cross,
    'rows': rows,
    'snake': walks.snake,
    'strided': walks.strided,
}


def resolve_walks(given: str | Sequence[str] | MakeWalks) -> tuple[MakeWalks, int]:
    """What makes walks over a map of a given height and width, and their number K.

    Args:
        given: A key of :data:`WALKS`; a list of directions of :func:`mmvim.ops.walks.local`, such as
            ``['h', 'v_flip', 'w7']``; or a function of height and width, which gives as many walks for every size.

    Raises:
        ValueError: If there are no walks of that name.
        TypeError: If a function gives something else.
    """
    if not isinstance(given, str) and not callable(given):
        names = tuple(given)
        walks.check_directions(names)
        return partial(walks.local, names=names), len(names)
    if isinstance(given, str):
        if given not in WALKS:
            raise UserValueError(
                f'walks={given!r}: expected one of {", ".join(map(repr, WALKS))}, a list of directions such as '
                "['h', 'v_flip', 'w7'], or a function of height and width" + hint(given, WALKS)
            )
        given = WALKS[given]
    found = _in_plain_tensors(given, 4, 4)
    if not isinstance(found, Walks):
        raise UserTypeError(
            f'walks: expected a function that gives mmvim.ops.Walks, {given!r} gave {type(found).__name__}'
        )
    return given if found.table is None else partial(_in_plain_tensors, given), found.num_walks


def _in_plain_tensors(make: MakeWalks, height: int, width: int) -> Walks:
    # Factories keep their tables. They have to have values, and to be fit for a backward pass, though the first to ask
    # were a model built on 'meta' or one in inference mode.
    with torch.inference_mode(False), torch.device('cpu'):
        return make(height, width)
