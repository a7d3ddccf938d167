"""Position information for token grids of any size."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError

CACHED_SIZES = 8


def resize_pos_embed(pos_embed: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate a position embedding bicubically to another grid; differentiable.

    Half-pixel centres (``align_corners=False``) and no antialiasing, as the official segmentation and detection
    models load theirs. The interpolation runs in fp32 at least, whatever the autocast dtype.

    Args:
        pos_embed: (1, h * w, C), row-major over the grid and without the row of a class token.
        old: (h, w), the grid that ``pos_embed`` belongs to.
        new: (Hp, Wp), the grid wanted.

    Returns:
        (1, Hp * Wp, C) in the dtype of ``pos_embed``; ``pos_embed`` itself where the grids agree.

    Raises:
        ValueError: If the number of rows is not ``h * w`` or the new grid is empty.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[0] != 1 or pos_embed.shape[1] != old[0] * old[1]:
        raise UserValueError(
            f'pos_embed must be (1, {old[0]} * {old[1]}, C) for the grid {tuple(old)}, got {tuple(pos_embed.shape)}'
        )
    if min(new) < 1:
        raise UserValueError(f'the new grid of a position embedding must be at least 1 x 1, got {tuple(new)}')
    if tuple(old) == tuple(new):
        return pos_embed
    grid = pos_embed.unflatten(1, old).permute(0, 3, 1, 2)
    if grid.element_size() < 4:
        grid = grid.float()
    grid = F.interpolate(grid, size=tuple(new), mode='bicubic', align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)


# Tokens that stand beside those of the patches and have a row of the table each.
_TOKENS = ('cls_token', 'dist_token')
# Side of the images that published tables are made for, and of their patches: with the rows these tell the stride.
_PUBLISHED_SIZE, _PUBLISHED_PATCH, _PUBLISHED_STRIDES = 224, 16, (16, 8)


def fit_pos_embed(
    found: dict[str, Tensor], own: Mapping[str, Tensor], grid: tuple[int, int], stride: int, tokens_first: bool
) -> list[str]:
    """Fit the position embedding in a file to a backbone, in place: its size, and the rows of other tokens.

    Args:
        found: Weights of such a backbone by its names. ``pos_embed`` is replaced.
        own: The backbone's own weights.
        grid: (h, w) that its table is made for.
        stride: Distance of its patches in pixels.
        tokens_first: Whether rows of other tokens stand in front; otherwise in the middle, of M patches at M // 2.

    Returns:
        What was done, in words.

    Raises:
        ValueError: If the table is none, was made for another stride, or is of no square grid and of another size.
    """
    if 'pos_embed' not in found:
        return []
    table = found['pos_embed']
    if table.ndim != 3 or table.shape[0] != 1 or not table.is_floating_point():
        raise UserValueError(f'pos_embed must be (1, n, C) of real numbers, got {tuple(table.shape)} of {table.dtype}')
    if table.shape[-1] != own['pos_embed'].shape[-1]:
        return []
    theirs, ours = (sum(token in state for token in _TOKENS) for state in (found, own))
    rows, patches = _split(found['pos_embed'], theirs, tokens_first)
    count = grid[0] * grid[1]
    made_for = next((s for s in _PUBLISHED_STRIDES if patches.shape[1] == _published_rows(s)), None)
    if patches.shape[1] != count and made_for not in (None, stride) and stride in _PUBLISHED_STRIDES:
        raise UserValueError(
            f'the file was made for patch stride {made_for}, the model has patch stride {stride}: '
            'take the arch of the file, or the file of the arch'
        )
    side = round(patches.shape[1] ** 0.5)
    old = grid if patches.shape[1] == count else (side, side)
    if old[0] * old[1] != patches.shape[1]:
        raise UserValueError(f'pos_embed of {patches.shape[1]} patches, no square, cannot be resized to {count}')
    done = [] if old == grid else [f'position embedding {old[0]} x {old[1]} resized to {grid[0]} x {grid[1]}']
    if theirs and not ours:
        done.append('row of the class token taken out of the position embedding')
    if theirs != ours:
        rows = _split(own['pos_embed'], ours, tokens_first)[0]
    patches = resize_pos_embed(patches, old, grid)
    start = 0 if tokens_first else count // 2
    found['pos_embed'] = torch.cat([patches[:, :start], rows.to(patches), patches[:, start:]], 1) if ours else patches
    return done


def _split(table: Tensor, tokens: int, tokens_first: bool) -> tuple[Tensor, Tensor]:
    """The rows of other tokens, and those of the patches."""
    start = 0 if tokens_first else (table.shape[1] - tokens) // 2
    return table[:, start : start + tokens], torch.cat([table[:, :start], table[:, start + tokens :]], 1)


def _published_rows(stride: int) -> int:
    return (1 + (_PUBLISHED_SIZE - _PUBLISHED_PATCH) // stride) ** 2


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
