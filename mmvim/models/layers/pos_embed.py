"""Position information for token grids of any size."""

import torch
from torch import Tensor, nn

from mmvim.checkpoints.pos_embed import resize_pos_embed

CACHED_SIZES = 8


class PositionEmbedding:
    """Gives a learned table at the size that an image asks for. Holds no parameters itself.

    In training the table is resized every time, for the gradient's sake. In evaluation without gradient the last
    results are kept, until the table itself changes in value, device or dtype.

    Args:
        grid: (h, w), the grid that the table was made for.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid
        self._made_of: tuple | None = None
        self._cache: dict[tuple[int, int], Tensor] = {}

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    def __call__(self, table: nn.Parameter, grid: tuple[int, int]) -> Tensor:
        """The table (1, h * w, C) at ``grid`` = (Hp, Wp), as (1, Hp * Wp, C)."""
        if grid == self.grid:
            return table
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing() or table.is_inference():
            return resize_pos_embed(table, self.grid, grid)
        made_of = (table.data_ptr(), table._version, table.device, table.dtype)
        if made_of != self._made_of:
            self._made_of, self._cache = made_of, {}
        if grid not in self._cache:
            if len(self._cache) == CACHED_SIZES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[grid] = resize_pos_embed(table, self.grid, grid)
        return self._cache[grid]


def rope_tables(grid: tuple[int, int], channels: int, like: Tensor, span: int = 14) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the 2-D rotary embedding in Vim's dense models.

    Positions along each axis run from 0 to ``span``, whatever the number of tokens. The first half of the channels
    turns with the row, the second with the column; neighbouring channels form a pair and share an angle.

    Args:
        grid: (Hp, Wp).
        channels: C, a multiple of 4.
        like: Gives the device, and the dtype unless that is a half-precision one.
        span: Grid that the frequencies were chosen for: 14, that of a 224 pixel image.

    Returns:
        Two tables (Hp * Wp, C), fp32 or fp64.
    """
    options = {'device': like.device, 'dtype': torch.promote_types(like.dtype, torch.float32)}
    half = channels // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2, **options) / half)
    rows, columns = (torch.arange(side, **options) / side * span for side in grid)
    rows, columns = (torch.outer(positions, frequencies).repeat_interleave(2, -1) for positions in (rows, columns))
    angles = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)], -1).flatten(0, 1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the channel pairs of tokens x (B, L, C) by the angles of :func:`rope_tables`."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], -1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)
