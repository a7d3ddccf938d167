"""The orders in which tokens are visited."""

import gc

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mmvim.ops import Walks, scan, tables, walks

GRIDS = [(1, 1), (1, 6), (6, 1), (2, 3), (3, 4), (7, 5), (8, 8)]


def visited(walk: Walks) -> list[list[int]]:
    return walk.tokens().tolist()


@pytest.mark.parametrize(('height', 'width'), GRIDS)
def test_cross_is_rows_columns_and_their_reverses(height, width):
    walk = walks.cross(height, width)
    rows = [y * width + x for y in range(height) for x in range(width)]
    columns = [y * width + x for x in range(width) for y in range(height)]
    assert visited(walk) == [rows, columns, rows[::-1], columns[::-1]]
    assert (walk.num_walks, walk.num_steps, walk.num_tokens, walk.table) == (4, height * width, height * width, None)


def test_sequences():
    assert visited(walks.bidirectional(4)) == [[0, 1, 2, 3], [3, 2, 1, 0]]
    assert visited(walks.rows(3, 2)) == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize('height', [2, 3, 5])
@pytest.mark.parametrize('width', [3, 4])
def test_kinds_follow_the_formula_of_the_kernels(height, width):
    length = height * width
    walk = walks.cross(height, width)
    for kind, order in zip(walk.kinds, visited(walk), strict=True):
        for step, token in enumerate(order):
            s = length - 1 - step if kind >= 2 else step
            assert token == ((s % height) * width + s // height if kind & 1 else s)


@pytest.mark.parametrize(('height', 'width'), GRIDS)
def test_snake_moves_to_a_neighbour_every_step(height, width):
    by_rows, back, by_columns, back_columns = visited(walks.snake(height, width))
    assert by_rows == back[::-1]
    assert by_columns == back_columns[::-1]
    for order, first in ((by_rows, 1), (by_columns, width)):
        assert sorted(order) == list(range(height * width))
        places = [divmod(token, width) for token in order]
        assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in zip(places, places[1:], strict=False))
        if height > 1 and width > 1:
            assert order[:2] == [0, first]


def test_snake_of_a_grid_of_two_rows():
    assert visited(walks.snake(2, 3)) == [
        [0, 1, 2, 5, 4, 3], [3, 4, 5, 2, 1, 0], [0, 3, 4, 1, 2, 5], [5, 2, 1, 4, 3, 0],
    ]  # fmt: skip


def loop_over_windows(height: int, width: int, size: int) -> list[int]:
    order = []
    for top in range(0, height, size):
        for left in range(0, width, size):
            for y in range(top, top + size):
                for x in range(left, left + size):
                    order.append(y * width + x if y < height and x < width else -1)
    return order


@pytest.mark.parametrize(('height', 'width'), GRIDS)
@pytest.mark.parametrize('size', [2, 7])
def test_local_windows(height, width, size):
    walk = walks.local(height, width, ('v', 'h_flip', f'w{size}', f'w{size}_flip'))
    v, h_flip, window, window_flip = visited(walk)
    want = loop_over_windows(height, width, size)
    rest = [-1] * (len(want) - height * width)
    assert v == [y * width + x for x in range(width) for y in range(height)] + rest
    assert h_flip == list(range(height * width))[::-1] + rest
    assert window == want
    assert window_flip == want[::-1]


def test_local_without_windows_needs_no_padding():
    assert visited(walks.local(2, 2, ('h', 'v_flip'))) == [[0, 1, 2, 3], [3, 1, 2, 0]]


@pytest.mark.parametrize('name', ['w', 'w0', 'x', 'w2_flap', 'h_flap', 'v_', 'w2_flip_flip', ''])
def test_local_names_its_directions(name):
    with pytest.raises(ValueError, match="expected 'h', 'v' or 'wK'"):
        walks.local(4, 4, ('h', name))


@pytest.mark.parametrize(('height', 'width'), GRIDS)
def test_strided_sub_grids_are_disjoint_and_complete(height, width):
    orders = visited(walks.strided(height, width))
    assert sorted(token for order in orders for token in order if token >= 0) == list(range(height * width))
    for k, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        ys, xs = range(row, height + height % 2, 2), range(column, width + width % 2, 2)
        places = [(y, x) for x in xs for y in ys] if k % 2 else [(y, x) for y in ys for x in xs]
        assert orders[k] == [y * width + x if y < height and x < width else -1 for y, x in places]


def test_strided_example():
    assert visited(walks.strided(3, 4)) == [[0, 2, 8, 10], [4, -1, 6, -1], [1, 3, 9, 11], [5, -1, 7, -1]]


def test_table_is_kept_as_given():
    table = [[3, -1, 0], [1, 2, -1]]
    walk = walks.from_table(table, 2, 2)
    assert visited(walk) == table
    assert walk.table.dtype == torch.int32
    assert (walk.num_walks, walk.num_steps, walk.num_tokens, walk.kinds) == (2, 3, 4, ())


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        ([[0, 1, 4]], r'leave the grid: 2 x 2 tokens are numbered 0 to 3 .* the table has 4'),
        ([[0, -2, 1]], r'the table has -2'),
        ([[0, 1, 2], [0, 3, 0]], 'walk 1 visits token 0 more than once'),
        ([0, 1], r'integers \(K, S\), got torch.int64 \(2,\)'),
        (torch.zeros(0, 4, dtype=torch.long), r'got torch.int64 \(0, 4\)'),
        ([[0.0, 1.0]], r'got torch.float32 \(1, 2\)'),
    ],
)
def test_bad_tables(table, message):
    with pytest.raises(ValueError, match=message):
        walks.from_table(table, 2, 2)


@pytest.mark.parametrize('factory', [walks.snake, walks.strided, walks.local])
def test_tables_are_built_once_and_not_hoarded(factory):
    assert factory.cache_info().maxsize <= 64
    names = (('h', 'w2'),) if factory is walks.local else ()
    assert factory(4, 6, *names) is factory(4, 6, *names)


def test_a_table_is_copied_to_a_device_once_and_forgotten_with_its_walks():
    walk = walks.from_table([[0, 2, 1]], 1, 3)
    there = torch.empty(1, device='meta')
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert type(tables.on_device(walk, torch.empty(1, device='meta'))) is not torch.Tensor
    copy = tables.on_device(walk, there)
    assert type(copy) is torch.Tensor and copy.device == there.device
    assert tables.on_device(walk, there) is copy
    assert tables.on_device(walk, torch.empty(1)) is walk.table
    before = len(tables._KNOWN)
    del walk
    gc.collect()
    assert len(tables._KNOWN) == before - 1


FACTORIES = {
    'local': lambda size: walks.local(size, 4, ('h', 'w2')),
    'snake': lambda size: walks.snake(size, 4),
    'strided': lambda size: walks.strided(size, 4),
    'from_table': lambda size: walks.from_table([list(range(4 * size))], size, 4),
}
MODES = {
    'inference': torch.inference_mode,
    'meta': lambda: torch.device('meta'),
    'fake': FakeTensorMode,
    'fake, meta': lambda: FakeTensorMode(allow_non_fake_inputs=True),
}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', FACTORIES)
def test_tables_are_plain_tensors_whatever_mode_they_are_made_in(name, mode):
    size = 50 + list(MODES).index(mode)  # of no other test: the first call makes it
    with MODES[mode]():
        made = FACTORIES[name](size)
        again = FACTORIES[name](size)
    for walk in (made, again, FACTORIES[name](size)):
        assert type(walk.table) is torch.Tensor
        assert walk.table.device.type == 'cpu' and not walk.table.is_inference()
        assert int(walk.table.max()) == 4 * size - 1


def test_training_after_inference():
    with torch.inference_mode():
        walks.snake(3, 19)
    walk = walks.snake(3, 19)
    u = torch.randn(1, 57, 2, requires_grad=True)
    y = scan(u, u, -torch.ones(1, 2, 1), u[..., :1], u[..., :1], walks=walk)
    y.sum().backward()
    assert u.grad.isfinite().all()


@pytest.mark.parametrize('name', ['local', 'snake', 'strided'])
def test_what_a_caller_writes_into_a_table_is_not_what_the_next_one_gets(name):
    want = FACTORIES[name](61).table.clone()
    FACTORIES[name](61).table[0, 0] = 7
    assert torch.equal(FACTORIES[name](61).table, want)
    FACTORIES[name](61).table.numpy()[0, 0] = 7
    assert torch.equal(FACTORIES[name](61).table, want)
    assert FACTORIES[name](61) is FACTORIES[name](61)


def test_a_table_of_ones_own_is_copied():
    mine = torch.tensor([[0, 1]], dtype=torch.int32)
    walk = walks.from_table(mine, 1, 2)
    mine[0, 0] = 9
    assert visited(walk) == [[0, 1]]
