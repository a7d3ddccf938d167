"""Position embeddings on other grids."""

import pytest
import torch
from fill import fill_tensor
from golden import Golden

from mmvim.models.layers import resize_pos_embed


@pytest.mark.parametrize('grid', [(16, 16), (32, 32), (12, 16)])
def test_golden(grid: tuple[int, int]) -> None:
    table = fill_tensor('pos_embed', (1, 197, 192))
    patches = torch.cat([table[:, :98], table[:, 99:]], 1)
    golden = Golden('vim_tiny_pos_embed')
    golden.assert_close(f'dropmid_{grid[0]}x{grid[1]}', resize_pos_embed(patches, (14, 14), grid), 1e-6)


def test_same_grid_is_the_same_tensor() -> None:
    table = torch.randn(1, 6, 4)
    assert resize_pos_embed(table, (2, 3), (2, 3)) is table


def test_gradient() -> None:
    table = torch.randn(1, 12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize_pos_embed(x, (3, 4), (5, 2)), table)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    table = torch.randn(1, 9, 4, dtype=dtype)
    resized = resize_pos_embed(table, (3, 3), (4, 5))
    exact = resize_pos_embed(table.double(), (3, 3), (4, 5))
    assert resized.dtype == dtype
    assert (resized.double() - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize(
    ('shape', 'old', 'new', 'message'),
    [
        ((1, 10, 4), (3, 3), (4, 4), r'3 \* 3'),
        ((2, 9, 4), (3, 3), (4, 4), r'\(2, 9, 4\)'),
        ((9, 4), (3, 3), (4, 4), r'\(9, 4\)'),
        ((1, 9, 4), (3, 3), (0, 4), 'at least 1 x 1'),
    ],
)
def test_bad_input(shape: tuple, old: tuple, new: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_pos_embed(torch.zeros(shape), old, new)
