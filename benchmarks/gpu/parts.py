"""The parts of the check that a CPU can run as well: shapes, values and strides."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from common import on, relative_error, scan_case
from compare import SHORT, Row, check_conv, check_scan, compare, conv_reference, evaluate, exact, name_of
from torch import Tensor

from mmvim.ops import Walks, scan, walk_conv, walks
from mmvim.ops.reference import scan_reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def lengths(device: str, quick: bool) -> Iterator[Row]:
    """All lengths around the sizes of tiles."""
    sizes = (1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 197) if quick else (1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 197, 1025)
    for (length, states), dtype in zip(itertools.product(sizes, (16, 1)), itertools.cycle(DTYPES)):
        yield check_scan(device, {'walks': walks.bidirectional(length), 'channels': 24, 'd_state': states,
                                  'rank': 3, 'z': True, 'dtype': dtype})  # fmt: skip
    if not quick:
        yield check_scan(device, {'walks': walks.bidirectional(4097), 'channels': 8, 'd_state': 16, 'batch': 1})
        yield check_scan(device, {'walks': walks.cross(64, 65), 'channels': 96, 'd_state': 1, 'batch': 1, 'rank': 6})


def channels(device: str, quick: bool) -> Iterator[Row]:
    """Numbers of channels and states, specialised and not."""
    for (count, states), dtype in zip(
        itertools.product(
            (1, 7, 8, 16, 24, 48, 96, 100) if quick else (1, 7, 8, 16, 24, 48, 96, 100, 384, 768), (16, 1)
        ),
        itertools.cycle(DTYPES[::-1]),
    ):
        yield check_scan(device, {'walks': walks.rows(65), 'channels': count, 'd_state': states, 'dtype': dtype})
    for states, dtype in itertools.product((1, 2, 3, 4, 8, 16, 32), DTYPES[:2]):
        yield check_scan(device, {'walks': walks.bidirectional(37), 'channels': 40, 'd_state': states, 'batch': 3,
                                  'dtype': dtype})  # fmt: skip


def orders(device: str, quick: bool) -> Iterator[Row]:
    """Walks by index arithmetic and by table, with steps that have no token and tokens that are not visited."""
    table = walks.from_table(torch.tensor([[3, -1, 0, 5, 1, -1], [-1, 2, 4, -1, -1, 0]]), 2, 3)
    every = [walks.rows(37), walks.rows(37, 3), walks.bidirectional(64), walks.cross(7, 13), walks.cross(1, 13),
             walks.cross(13, 1), walks.cross(25, 40), Walks(5, 9, (3,)), Walks(5, 9, (1, 3)), walks.snake(7, 9),
             walks.strided(7, 9), walks.local(7, 9, ('h', 'v', 'w2', 'w3_flip')), table]  # fmt: skip
    for walk, merge, states in itertools.product(every, ('sum', 'none'), (1, 16)):
        yield check_scan(
            device, {'walks': walk, 'channels': 33, 'd_state': states, 'merge': merge, 'rank': 2, 'z': True}
        )
    for walk, u_order, param_order in itertools.product(every[-4:], ('token', 'step'), ('token', 'step')):
        yield check_scan(device, {'walks': walk, 'channels': 20, 'd_state': 4, 'u_order': u_order,
                                  'param_order': param_order, 'per_walk': True})  # fmt: skip


def options(device: str, quick: bool) -> Iterator[Row]:
    """Every optional argument absent and present."""
    walk = walks.cross(6, 11)
    for D, bias, softplus, z in itertools.product((False, True), repeat=4):
        yield check_scan(device, {'walks': walk, 'channels': 36, 'd_state': 16, 'D': D, 'delta_bias': bias,
                                  'delta_softplus': softplus, 'z': z, 'batch': 1})  # fmt: skip
    for per_walk, own, rank, states in itertools.product((False, True), (False, True), (None, 1, 6, 24, 48), (1, 16)):
        yield check_scan(device, {'walks': walk, 'channels': 64, 'd_state': states, 'per_walk': per_walk,
                                  'own_parameters': own, 'rank': rank, 'scale': 0.5})  # fmt: skip


def model_shapes(device: str, quick: bool) -> Iterator[Row]:
    """What Vim and VMamba call it with."""
    vim = [(192, 12, 33), (384, 24, 50)] if quick else [(384, 12, 1025), (768, 24, 197), (1536, 48, 197)]
    for (count, rank, length), dtype in itertools.product(vim, DTYPES):
        yield check_scan(device, {'walks': walks.bidirectional(length), 'channels': count, 'd_state': 16, 'rank': rank,
                                  'z': True, 'scale': 0.5, 'dtype': dtype})  # fmt: skip
    side = 8 if quick else 28
    for (count, rank, states), dtype in itertools.product(
        ((96, 6, 1), (192, 12, 1), (384, 24, 1), (768, 12, 16)), DTYPES
    ):
        yield check_scan(device, {'walks': walks.cross(side, side + 1), 'channels': count, 'd_state': states,
                                  'rank': rank, 'per_walk': True, 'dtype': dtype})  # fmt: skip


def values(device: str, quick: bool) -> Iterator[Row]:
    """Steps, decays and inputs at the ends of their ranges."""
    walk = walks.bidirectional(70)
    base = {'walks': walk, 'channels': 40, 'd_state': 16, 'delta_bias': False, 'batch': 1}
    for raw, dtype in itertools.product((-50.0, -20.0, -8.0, 0.0, 20.0, 21.0, 88.0, 1e4), DTYPES[:2]):
        case = scan_case(**base, dtype=dtype)
        case['delta'] = torch.full_like(case['delta'], raw)
        case = on(device, case)
        want, got = evaluate(scan_reference, exact(case)), evaluate(scan, case)
        if raw < -8:  # steps of exp(-20) and less: what is left is the skip connection
            want, got = ({key: result[key] for key in ('y', 'du', 'dD')} for result in (want, got))
        yield compare(f'delta {raw:g}, {SHORT[dtype]}', got, want, dtype)
    length = 512 if quick else 16384
    for A in (-1e-6, -1e4):
        case = scan_case(walks.rows(length), channels=8, d_state=16, batch=1, dtype=torch.float32)
        case['A'] = torch.full_like(case['A'], A)
        case = on(device, case)
        want, got = evaluate(scan_reference, exact(case)), evaluate(scan, case)
        if A == -1e4:  # everything decays at once, and its gradient with it
            want, got = ({key: result[key] for key in ('y', 'du', 'dB', 'dC')} for result in (want, got))
        yield compare(f'A {A:g}, L {length}', got, want, torch.float32, 10)
    yield from _not_finite(device)
    case = on(device, scan_case(**{**base, 'delta_bias': True}, dtype=torch.float32))
    case['u'] = torch.zeros_like(case['u'])
    got = evaluate(scan, case)
    finite = all(bool(x.isfinite().all()) for x in got.values())
    yield {'case': 'zeros as input', 'ok': finite and not got['y'].any().item(), 'worst': ''}


def _not_finite(device: str) -> Iterator[Row]:
    """NaN and infinity travel along a walk, never against it."""
    walk = walks.bidirectional(100)
    case = on(device, scan_case(walk, channels=33, d_state=16, merge='none', dtype=torch.float32))
    clean = scan(**case)
    for value, at in itertools.product((math.nan, math.inf), (0, 31, 32, 50, 99)):
        u = case['u'].clone()
        u[:, :, at] = value
        y = scan(**{**case, 'u': u})
        same = torch.equal(y[:, 0, :at], clean[:, 0, :at]) and torch.equal(y[:, 1, at + 1 :], clean[:, 1, at + 1 :])
        spoilt = not y[:, :, at].isfinite().any()
        yield {'case': f'{value} at token {at}', 'ok': same and spoilt, 'worst': '' if same else 'against the walk'}


def _wide(x: Tensor) -> Tensor:
    """The same numbers as a slice of wider rows of NaN."""
    rows = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 3), math.nan)
    rows[..., 1 : 1 + x.shape[-1]] = x
    return rows[..., 1 : 1 + x.shape[-1]]


def _shifted(x: Tensor) -> Tensor:
    """The same numbers one element behind an aligned address."""
    memory = x.new_full((x.numel() + 1,), math.nan)
    memory[1:] = x.flatten()
    return memory[1:].view(x.shape)


def _turned(x: Tensor) -> Tensor:
    """The same numbers with the last axis not dense."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def _swapped(x: Tensor) -> Tensor:
    """The same numbers with batch and tokens in another order in memory."""
    return x.transpose(0, -2).contiguous().transpose(0, -2)


def _constant(x: Tensor) -> Tensor:
    """Ones of its shape, all at one address."""
    return x.new_ones(()).expand_as(x)


def strides(device: str, quick: bool) -> Iterator[Row]:
    """Slices, offsets that are not aligned, expanded batches, gradients of any layout."""
    layouts = {'slice': _wide, 'offset': _shifted, 'last axis': _turned, 'swapped': _swapped}
    big = ('u', 'delta', 'B', 'C', 'z')
    for states, dtype, (name, layout) in itertools.product((1, 16), DTYPES, layouts.items()):
        case = on(device, scan_case(walks.cross(5, 9), channels=64, d_state=states, rank=6, z=True, dtype=dtype))
        want = evaluate(scan_reference, exact(case))
        moved = {**case, **{key: layout(case[key]) for key in big}}
        yield compare(f'scan, N {states}, {SHORT[dtype]}, {name}', evaluate(scan, moved), want, dtype)
        yield compare(f'scan, N {states}, {SHORT[dtype]}, gradient {name}', evaluate(scan, case, layout), want, dtype)
    for dtype in DTYPES:
        case = on(device, scan_case(walks.bidirectional(45), channels=32, d_state=16, z=True, dtype=dtype))
        case |= {key: case[key][:1].expand_as(case[key]) for key in big}
        want = evaluate(scan_reference, exact(case))
        yield compare(f'scan, {SHORT[dtype]}, expanded batch', evaluate(scan, case), want, dtype)
        ones = evaluate(scan_reference, exact(case), _constant)
        got = evaluate(scan, case, _constant)
        yield compare(f'scan, {SHORT[dtype]}, expanded gradient', got, ones, dtype)
        x, weight, walk = torch.randn(2, 45, 40).to(device, dtype), torch.randn(2, 40, 4, device=device), case['walks']
        want = evaluate(conv_reference, exact({'x': x, 'weight': weight, 'bias': None, 'walks': walk}))
        for name, layout in layouts.items():
            moved = {'x': layout(x), 'weight': weight, 'bias': None, 'walks': walk}
            yield compare(f'walk_conv, {SHORT[dtype]}, {name}', evaluate(walk_conv, moved), want, dtype)
            got = evaluate(walk_conv, {**moved, 'x': x}, layout)
            yield compare(f'walk_conv, {SHORT[dtype]}, gradient {name}', got, want, dtype)


def conv(device: str, quick: bool) -> Iterator[Row]:
    """The convolution: taps, lengths, channels, walks, both orders of results."""
    for taps, dtype, bias in itertools.product((1, 2, 3, 4, 5, 7), DTYPES, (True, False)):
        yield check_conv(device, walks.bidirectional(67), 40, taps, dtype, bias)
    for length, count in itertools.product((1, 2, 3, 4, 31, 32, 33, 197), (1, 7, 8, 100)):
        yield check_conv(device, walks.bidirectional(length), count, 4, torch.bfloat16)
    every = [walks.rows(37), walks.rows(37, 3), walks.cross(7, 13), walks.snake(7, 9), walks.strided(7, 9),
             walks.local(7, 9, ('h', 'v', 'w2', 'w3_flip'))]  # fmt: skip
    for walk, order, activation in itertools.product(every, ('token', 'step'), ('silu', None)):
        yield check_conv(device, walk, 33, 4, torch.float32, order=order, activation=activation)


def repeatable(device: str, quick: bool) -> Iterator[Row]:
    """The same bits on every run, and no complaint from torch.use_deterministic_algorithms."""
    torch.use_deterministic_algorithms(True)
    shapes = [
        (walks.bidirectional(197), 384, 16, 24),
        (walks.cross(14, 14), 192, 1, 12),
        (walks.snake(7, 9), 48, 4, None),
    ]
    for walk, count, states, rank in shapes:
        case = on(device, scan_case(walk, channels=count, d_state=states, rank=rank, z=True, dtype=torch.float32))
        first = evaluate(scan, case)
        different = {
            key for _ in range(20) for key, x in evaluate(scan, case).items() if not torch.equal(x, first[key])
        }
        yield {'case': f'20 runs of scan, {name_of({"walks": walk, "channels": count, "N": states})}',
               'ok': not different, 'worst': ', '.join(sorted(different))}  # fmt: skip
    x, weight = torch.randn(4, 197, 384, device=device), torch.randn(2, 384, 4, device=device)
    case = {'x': x, 'weight': weight, 'bias': torch.randn(2, 384, device=device), 'walks': walks.bidirectional(197)}
    first = evaluate(walk_conv, case)
    different = {
        key for _ in range(20) for key, y in evaluate(walk_conv, case).items() if not torch.equal(y, first[key])
    }
    yield {'case': '20 runs of walk_conv', 'ok': not different, 'worst': ', '.join(sorted(different))}


def symmetries(device: str, quick: bool) -> Iterator[Row]:
    """A reversed walk is the walk over flipped tokens; a column is a row of the transposed map."""
    case = on(device, scan_case(walks.rows(101), channels=40, d_state=16, per_walk=False, dtype=torch.float32))
    turned = {key: case[key].flip(1) for key in ('u', 'delta', 'B', 'C')}
    back = scan(**{**case, 'walks': Walks(1, 101, (walks.ROW_REVERSED,))})
    yield _equal('reversed', back, scan(**{**case, **turned}).flip(1))
    case = on(
        device, scan_case(Walks(9, 12, (walks.COLUMN,)), channels=40, d_state=1, per_walk=False, dtype=torch.float32)
    )
    turned = {key: case[key].unflatten(1, (9, 12)).transpose(1, 2).flatten(1, 2) for key in ('u', 'delta', 'B', 'C')}
    rows = scan(**{**case, **turned, 'walks': walks.rows(108)}).unflatten(1, (12, 9)).transpose(1, 2).flatten(1, 2)
    yield _equal('columns', scan(**case), rows)


def _equal(what: str, got: Tensor, want: Tensor) -> Row:
    error = relative_error(got, want)
    return {'case': what, 'ok': error <= 1e-6, 'worst': 'y', 'error': f'{error:.1e}'}


PARTS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    part.__name__: part
    for part in (lengths, channels, orders, options, model_shapes, values, strides, conv, repeatable, symmetries)
}
