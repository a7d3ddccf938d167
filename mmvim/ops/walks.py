"""Walks: the orders in which a selective scan visits the tokens of an image.

A set of K walks over a grid of ``height x width`` tokens (token ``t`` is at row ``t // width``, column ``t % width``)
is either a tuple of kinds, which the kernels turn into tokens by index arithmetic, or a table. The factories here are
all that the models of this family need:

============================  =========================================================================
:func:`bidirectional`         Vim: forward and backward over a sequence
:func:`cross`                 VMamba: row-major, column-major and their reverses
:func:`local`                 LocalMamba: any four of rows, columns, windows and their reverses
:func:`snake`                 PlainMamba: boustrophedon by rows and by columns, and their reverses
:func:`strided`               EfficientVMamba: four disjoint sub-grids
:func:`from_table`            anything else
============================  =========================================================================
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mmvim.errors import UserTypeError, UserValueError

ROW, COLUMN, ROW_REVERSED, COLUMN_REVERSED = _KINDS = (0, 1, 2, 3)
_SIZES = (int, torch.SymInt)
# Tables kept per factory. LocalVMamba-S needs 28 for an image; training at random sizes must not grow without bound.
CACHED_GRIDS = 64


class Walks(NamedTuple):
    """K walks of S steps each over ``height * width`` tokens; made by the factories of this module.

    Attributes:
        height: Rows of the token grid.
        width: Columns of the token grid.
        kinds: One of ``ROW, COLUMN, ROW_REVERSED, COLUMN_REVERSED`` per walk; empty when there is a table.
        table: int32 (K, S), the token of each step, -1 for a step without a token; ``None`` when there are kinds.
    """

    height: int
    width: int
    kinds: tuple[int, ...] = ()
    table: Tensor | None = None

    def check(self) -> None:
        """Whether this can be walked; the values of a table are :func:`check_table`'s matter.

        Raises:
            TypeError: If a field is of the wrong type.
            ValueError: If a size is negative, a kind does not exist, or there are both kinds and a table, or neither.
        """
        height, width, kinds, table = self
        sizes = (*_SIZES, Tensor) if torch.jit.is_tracing() else _SIZES  # there a shape is made of tensors
        if not (isinstance(height, sizes) and isinstance(width, sizes)):
            raise UserTypeError(f'walks: height and width must be integers, got {height!r} and {width!r}')
        if height < 0 or width < 0:
            raise UserValueError(f'walks: expected a grid of height x width tokens, got {height} x {width}')
        if table is not None:
            if not isinstance(table, Tensor) or table.dim() != 2 or table.dtype != torch.int32:
                raise UserTypeError('walks: a table must be an int32 tensor (K, S); walks.from_table makes one')
            if kinds:
                raise UserValueError('walks: expected kinds or a table, got both')
        elif not kinds:
            raise UserValueError('walks: expected at least one kind of walk, or a table; see mmvim.ops.walks')
        for kind in kinds:
            if kind not in _KINDS:
                raise UserValueError(
                    f'walks: kinds are 0 to 3 (ROW, COLUMN, ROW_REVERSED, COLUMN_REVERSED), got {kind!r}'
                )

    @property
    def num_tokens(self) -> int:
        return self.height * self.width

    @property
    def num_walks(self) -> int:
        return len(self.kinds) if self.table is None else self.table.shape[0]

    @property
    def num_steps(self) -> int:
        return self.num_tokens if self.table is None else self.table.shape[1]

    def tokens(self, device: torch.device | str = 'cpu') -> Tensor:
        """The token of every step as an int64 table (K, S), whichever way the walks are described."""
        if self.table is not None:
            return self.table.to(device, torch.long)
        grid = torch.arange(self.num_tokens, device=device).view(self.height, self.width)
        orders = {ROW: grid.flatten(), COLUMN: grid.t().flatten()}
        orders |= {ROW_REVERSED: orders[ROW].flip(0), COLUMN_REVERSED: orders[COLUMN].flip(0)}
        return torch.stack([orders[kind] for kind in self.kinds])


def rows(length: int, count: int = 1) -> Walks:
    """``count`` times the plain order 0, 1, ..., length - 1."""
    return Walks(1, length, (ROW,) * count)


def bidirectional(length: int) -> Walks:
    """Forward and backward over a sequence of ``length`` tokens (Vim, https://arxiv.org/abs/2401.09417)."""
    return Walks(1, length, (ROW, ROW_REVERSED))


def cross(height: int, width: int) -> Walks:
    """Rows, columns, rows reversed, columns reversed (VMamba's cross-scan, https://arxiv.org/abs/2401.10166)."""
    return Walks(height, width, (ROW, COLUMN, ROW_REVERSED, COLUMN_REVERSED))


def from_table(table: Tensor | Sequence[Sequence[int]], height: int, width: int) -> Walks:
    """Walks given step by step.

    Args:
        table: Integers (K, S): a token in [0, height * width) or -1 for a step without a token.
        height: Rows of the token grid.
        width: Columns of the token grid.

    Raises:
        ValueError: If the table is not (K, S), leaves the grid, or a walk visits a token twice.
    """
    with plain_tensors():
        table = torch.as_tensor(table, device=table.device if isinstance(table, Tensor) else 'cpu')
        if table.dim() != 2 or table.numel() == 0 or table.is_floating_point():
            raise UserValueError(f'a table of walks is made of integers (K, S), got {table.dtype} {tuple(table.shape)}')
        check_table(table, height, width)
        return Walks(height, width, table=table.to(torch.int32).clone(memory_format=torch.contiguous_format))


def check_table(table: Tensor, height: int, width: int) -> None:
    """Hold the values of a table against the grid.

    Raises:
        ValueError: If the table leaves the grid, or a walk visits a token twice.
    """
    low, high = (int(x) for x in table.aminmax())
    if low < -1 or high >= height * width:
        raise UserValueError(
            f'walks leave the grid: {height} x {width} tokens are numbered 0 to {height * width - 1} '
            f'(-1 for no token), the table has {low if low < -1 else high}'
        )
    for k, walk in enumerate(table):
        visits = walk[walk >= 0].bincount(minlength=1)
        if visits.max() > 1:
            raise UserValueError(f'walk {k} visits token {int((visits > 1).nonzero()[0])} more than once')


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Tensors made here are ordinary ones: not of inference mode, of a default device or of a tracer."""
    with _disable_current_modes(), torch.inference_mode(False):
        yield


def _kept(build: Callable[..., Walks]) -> Callable[..., Walks]:
    """A factory that builds each table once. What a caller writes into it is not what the next one gets."""

    @lru_cache(CACHED_GRIDS)
    def made(*args) -> list[Walks]:
        walks = build(*args)
        return [walks, walks._replace(table=walks.table.clone())]  # what is handed out, and what it should be

    @wraps(build)
    def factory(*args, **kwargs) -> Walks:
        if kwargs:
            args = inspect.signature(build).bind(*args, **kwargs).args
        with plain_tensors():
            cell = made(*args)
            if not torch.equal(cell[0].table, cell[1].table):
                cell[0] = cell[1]._replace(table=cell[1].table.clone())
            return cell[0]

    factory.cache_info, factory.cache_clear = made.cache_info, made.cache_clear
    return factory


def local(height: int, width: int, names: Sequence[str], class_token: bool = False) -> Walks:
    """LocalMamba's directions (https://arxiv.org/abs/2403.09338): ``'h'``, ``'v'``, ``'wK'``, also with ``'_flip'``.

    ``wK`` visits K x K windows in row-major order, and in row-major order within each. The grid is padded at the right
    and the bottom to whole windows; a padded place is a step without a token. ``_flip`` reverses the walk, padding
    included. Shorter walks are filled up with such steps at their end. Rows and columns alone need no table.

    Args:
        height: Rows of the token grid.
        width: Columns of the token grid.
        names: Directions, any number of them.
        class_token: Whether one more token stands in the middle, in front of token M // 2 of the M = height * width,
            and is visited at step M // 2 of every walk. The walks are then over one row of M + 1 tokens.

    Raises:
        ValueError: If a direction is unknown, or a window both larger than the grid and than
            :data:`LARGEST_PADDED_WINDOW`.
    """
    names = tuple(names)
    check_directions(names)
    if not class_token and all(name in _WITHOUT_WINDOWS for name in names):
        return Walks(height, width, tuple(_WITHOUT_WINDOWS[name] for name in names))
    return _local_table(height, width, names, class_token)


#: Windows of published models are at most 7 x 7, which the last map of a small image is smaller than. Up to this side
#: they may be larger than the grid; beyond it that is a slip, and would cost memory without bound.
LARGEST_PADDED_WINDOW = 16
_WITHOUT_WINDOWS = {'h': ROW, 'v': COLUMN, 'h_flip': ROW_REVERSED, 'v_flip': COLUMN_REVERSED}


def check_directions(names: Sequence[str]) -> None:
    """Whether all of them are directions of :func:`local`.

    Raises:
        ValueError: If there are none, or one is unknown.
    """
    if not names:
        raise UserValueError('directions: expected at least one')
    for name in names:
        if name not in _WITHOUT_WINDOWS and not (isinstance(name, str) and _window_side(name)):
            raise UserValueError(
                f"direction {name!r}: expected 'h', 'v' or 'wK' (a window of K x K), or one + '_flip': "
                f'{", ".join(_WITHOUT_WINDOWS)}, and w2, w2_flip, w7, w7_flip in published models'
            )


def _window_side(name: str) -> int:
    """K of ``wK`` and ``wK_flip``; 0 if it is neither."""
    digits = name.removesuffix('_flip')[1:]
    return int(digits) if name[:1] == 'w' and digits.isascii() and digits.isdigit() else 0


@_kept
def _local_table(height: int, width: int, names: tuple[str, ...], class_token: bool) -> Walks:
    grid = torch.arange(height * width, device='cpu').view(height, width)
    orders = []
    for name in names:
        direction = name.removesuffix('_flip')
        if direction in ('h', 'v'):
            order = (grid if direction == 'h' else grid.t()).flatten()
        else:
            side = _window_side(name)
            if side > max(height, width, LARGEST_PADDED_WINDOW):
                raise UserValueError(
                    f'direction {name!r}: a window of {side} x {side} is larger than the map of {height} x {width} '
                    'tokens: take a smaller one'
                )
            order = _windows(grid, side)
        orders.append(order if name == direction else order.flip(0))
    steps = max(len(order) for order in orders)
    table = torch.full((len(orders), steps), -1, device='cpu')
    for row, order in zip(table, orders, strict=True):
        row[: len(order)] = order
    if not class_token:
        return from_table(table, height, width)
    middle = height * width // 2
    table = table + (table >= middle)
    token = torch.full((len(orders), 1), middle, device='cpu')
    return from_table(torch.cat([table[:, :middle], token, table[:, middle:]], 1), 1, height * width + 1)


local.cache_info, local.cache_clear = _local_table.cache_info, _local_table.cache_clear


def _windows(grid: Tensor, size: int) -> Tensor:
    height, width = grid.shape
    padded = torch.nn.functional.pad(grid, (0, -width % size, 0, -height % size), value=-1)
    windows = padded.unfold(0, size, size).unfold(1, size, size)  # (rows of windows, columns of windows, size, size)
    return windows.flatten()


@_kept
def snake(height: int, width: int) -> Walks:
    """PlainMamba's continuous scan (https://arxiv.org/abs/2403.17695): snakes along rows and columns, with reverses."""
    grid = torch.arange(height * width, device='cpu').view(height, width)
    by_rows, by_columns = _boustrophedon(grid), _boustrophedon(grid.t())
    return from_table(torch.stack([by_rows, by_rows.flip(0), by_columns, by_columns.flip(0)]), height, width)


def _boustrophedon(grid: Tensor) -> Tensor:
    turned = grid.clone()
    turned[1::2] = grid[1::2].flip(1)
    return turned.flatten()


@_kept
def strided(height: int, width: int) -> Walks:
    """EfficientVMamba's skip sampling (https://arxiv.org/abs/2403.09977): four disjoint sub-grids with step 2.

    The walks start at (row, column) = (0, 0), (1, 0), (0, 1), (1, 1); the first and third run along rows, the second
    and fourth along columns. An odd grid is padded at the right and the bottom by steps without a token.
    """
    grid = torch.nn.functional.pad(
        torch.arange(height * width, device='cpu').view(height, width), (0, width % 2, 0, height % 2), value=-1
    )
    orders = [grid[0::2, 0::2], grid[1::2, 0::2].t(), grid[0::2, 1::2], grid[1::2, 1::2].t()]
    return from_table(torch.stack([order.flatten() for order in orders]), height, width)
