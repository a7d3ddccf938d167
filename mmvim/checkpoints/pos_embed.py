"""Position embeddings on another grid than the one they were trained on."""

import torch.nn.functional as F
from torch import Tensor


def check_pos_embed(table: Tensor) -> None:
    """Refuse what is no position embedding of a file.

    Raises:
        ValueError: if it is not (1, n, C) of real numbers.
    """
    if table.ndim != 3 or table.shape[0] != 1 or not table.is_floating_point():
        raise ValueError(f'pos_embed must be (1, n, C) of real numbers, got {tuple(table.shape)} of {table.dtype}')


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
        ValueError: if the number of rows is not ``h * w`` or the new grid is empty.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[0] != 1 or pos_embed.shape[1] != old[0] * old[1]:
        raise ValueError(
            f'pos_embed must be (1, {old[0]} * {old[1]}, C) for the grid {tuple(old)}, got {tuple(pos_embed.shape)}'
        )
    if min(new) < 1:
        raise ValueError(f'the new grid of a position embedding must be at least 1 x 1, got {tuple(new)}')
    if tuple(old) == tuple(new):
        return pos_embed
    grid = pos_embed.unflatten(1, old).permute(0, 3, 1, 2)
    if grid.element_size() < 4:
        grid = grid.float()
    grid = F.interpolate(grid, size=tuple(new), mode='bicubic', align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)
