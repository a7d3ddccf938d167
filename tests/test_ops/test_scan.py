"""The selective scan against its formula: results and every gradient."""

from itertools import product
from random import Random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmvim.ops import chunked, scan, walks
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import BACKENDS, LEAST_TOLERANCE, TENSORS, WIDE, assert_same, relative_error, results, scan_case

WALKS = {
    'bidirectional': walks.bidirectional(35),
    'cross': walks.cross(5, 7),
    'windows': walks.local(5, 7, ('h', 'v_flip', 'w2', 'w7_flip')),  # padded, walks of different lengths
    'strided': walks.strided(5, 7),  # padded, tokens left out
    'snake': walks.snake(5, 7),
}
OPTIONS = {
    'u_order': ('token', 'step'),
    'param_order': ('token', 'step'),
    'merge': ('sum', 'none'),
    'per_walk': (True, False),
    'own_parameters': (True, False),
    'z': (False, True),
    'D': (False, True),
    'delta_bias': (False, True),
    'delta_softplus': (True, False),
    'rank': (None, 2),
    'scale': (1.0, 0.5),
}
# A sample of the product in which every pair of values of two options occurs.
COMBINATIONS = Random(2).sample([dict(zip(OPTIONS, row, strict=True)) for row in product(*OPTIONS.values())], 40)


def reference(**arguments):
    return scan_reference(**arguments)[0]


def test_combinations_cover_every_pair():
    for a, b in product(OPTIONS, OPTIONS):
        if a != b:
            assert {(row[a], row[b]) for row in COMBINATIONS} == set(product(OPTIONS[a], OPTIONS[b]))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', WALKS)
@pytest.mark.parametrize('number', range(len(COMBINATIONS)))
def test_results_and_gradients(number, name, backend):
    case = scan_case(WALKS[name], **COMBINATIONS[number], seed=number)
    assert_same(results(scan, case, backend=backend), results(reference, case), 1e-11)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('length', [1, 2, 31, 32, 33, 64, 65, 96, 97])
def test_lengths_around_a_tile(length, backend):
    for walk in (walks.bidirectional(length), walks.from_table(walks.bidirectional(length).tokens(), 1, length)):
        case = scan_case(walk, z=True, channels=3)
        assert_same(results(scan, case, backend=backend), results(reference, case), 1e-11)
        _, state = scan(**case, return_last_state=True, backend=backend)
        assert relative_error(state, scan_reference(**case)[1]) < max(1e-11, LEAST_TOLERANCE)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('d_state', [1, 2, 4, 5, 8, 16, 17])
@pytest.mark.parametrize('channels', [1, 8, 19])
def test_numbers_of_states_and_channels(channels, d_state, backend):
    case = scan_case(WALKS['cross'], channels=channels, d_state=d_state, z=True, rank=3)
    assert_same(results(scan, case, backend=backend), results(reference, case), 1e-11)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)], ids=str
)
def test_dtypes(dtype, tolerance, backend):
    case = scan_case(WALKS['cross'], channels=16, d_state=8, z=True, dtype=dtype)
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    got = results(scan, case, backend=backend)
    assert_same(got, results(reference, exact), tolerance, gradients=3)
    assert got['y'].dtype == dtype
    assert all(got[f'd{name}'].dtype == case[name].dtype for name in TENSORS if case[name] is not None)
    assert scan(**case, out_dtype=torch.float32, backend=backend).dtype == torch.float32


def test_softplus_far_from_zero():
    case = scan_case(walks.rows(8), channels=1, d_state=2, delta_bias=False)
    case['delta'][:] = torch.tensor([-50.0, -20.0, -8.0, 0.0, 19.9, 20.1, 88.0, 1e4]).view(1, 1, 8, 1)
    for backend in BACKENDS:
        assert_same(results(scan, case, backend=backend), results(reference, case), 1e-9)


def test_memory_of_long_duration():
    # A = -1e-6 forgets nothing within 2000 steps: rounding errors of every step would add up.
    case = scan_case(walks.rows(2000), batch=1, channels=2, d_state=1, dtype=torch.float32)
    case['A'][:] = -1e-6
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    for backend in BACKENDS:
        assert relative_error(scan(**case, backend=backend), reference(**exact)) < 1e-5


LAYOUTS = {
    'slice of wider rows': lambda x: torch.cat([x, x, x], -1)[..., x.shape[-1] : 2 * x.shape[-1]],
    'transposed': lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    'expanded batch': lambda x: x[:1].expand(x.shape),
    'misaligned': lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    'batch last': lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
}


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3)], ids=str)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_any_layout_in_memory(layout, dtype, tolerance, backend):
    case = scan_case(WALKS['cross'], z=True, rank=2, dtype=dtype)

    def laid_out(in_place, **arguments):
        for name in ('u', 'delta', 'B', 'C', 'z'):
            x = LAYOUTS[layout](arguments[name])
            assert layout == 'misaligned' or not x.is_contiguous()
            arguments[name] = x if in_place else x.clone(memory_format=torch.contiguous_format)
        return scan(**arguments, backend=backend)

    got, want = (results(lambda p=place, **kwargs: laid_out(p, **kwargs), case) for place in (True, False))
    assert_same(got, want, tolerance)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradients_of_slices_and_expanded_tensors(backend):
    """delta, B and C are slices of one matrix product, u is shared by the batch: gradients arrive at the sources."""
    walk = walks.bidirectional(9)

    def loss(function, **kwargs):
        generator = torch.Generator().manual_seed(3)
        base = torch.randn(2, 1, 9, 12, generator=generator, dtype=WIDE).requires_grad_()
        row = torch.randn(1, 9, 4, generator=generator, dtype=WIDE).requires_grad_()
        delta, B, C = base.expand(-1, 2, -1, -1).split([4, 4, 4], -1)
        A = -torch.rand(2, 4, 4, generator=generator, dtype=WIDE)
        y = function(row.expand(2, -1, -1), delta, A, B, C, walks=walk, **kwargs)
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
        return {'y': y.detach(), 'base': base.grad, 'row': row.grad}

    assert_same(loss(scan, backend=backend), loss(lambda *a, **k: scan_reference(*a, **k)[0]), 1e-11)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradcheck(backend):
    names = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias', 'dt_weight')
    for walk, options in (
        (walks.cross(2, 3), {}),
        (walks.strided(3, 2), {'merge': 'none', 'own_parameters': False}),
        (walks.local(2, 3, ('w2', 'h_flip')), {'u_order': 'step', 'param_order': 'step', 'scale': 0.5}),
    ):
        case = scan_case(walk, batch=1, channels=2, d_state=2, rank=1, z=True, **options)
        tensors = [case.pop(name).requires_grad_() for name in names]
        function = lambda *tensors, case=case: scan(**dict(zip(names, tensors, strict=True)), **case, backend=backend)  # noqa: E731
        assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', TENSORS)
@pytest.mark.parametrize('walk', ['cross', 'windows'])
def test_only_asked_gradients_are_computed(walk, name, backend):
    case = scan_case(WALKS[walk], z=True, rank=2)
    want = results(scan, case, backend=backend)[f'd{name}']
    case[name].requires_grad_()
    calls = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            result = op(*args, **(kwargs or {}))
            if 'mmvim.scan_backward' in str(op):
                calls.append([x.numel() > 0 for x in result])
            return result

    y = scan(**case, backend=backend)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with Recorder():
        y.backward(weights.to(y.dtype))
    assert calls == [[other == name for other in TENSORS]]
    assert all(case[other].grad is None for other in TENSORS if other != name)
    assert torch.equal(case[name].grad, want)


@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast_takes_mixed_dtypes(backend):
    case = scan_case(WALKS['cross'], channels=16, z=True, dtype=torch.float32)
    mixed = {**case, 'delta': case['delta'].bfloat16(), 'u': case['u'].half(), 'B': case['B'].bfloat16()}
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in mixed.items()}
    with torch.autocast('cpu', torch.bfloat16):
        got = results(scan, mixed, backend=backend)
    assert_same(got, results(reference, exact), 1e-5, gradients=800)  # gradients are rounded to bf16
    assert [got[f'd{name}'].dtype for name in ('u', 'delta', 'C')] == [torch.half, torch.bfloat16, torch.float32]


@pytest.mark.parametrize('backend', BACKENDS)
def test_twice_the_same_bits(backend):
    case = scan_case(WALKS['windows'], z=True, dtype=torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (results(scan, case, backend=backend) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)


def kept_bytes(d_state: int, backend: str) -> tuple[int, set[int]]:
    """Bytes that a scan keeps for its backward pass beyond its arguments, and the storages of these."""
    case = scan_case(walks.bidirectional(640), channels=4, d_state=d_state, z=True, dtype=torch.bfloat16)
    tensors = {name: x.requires_grad_() for name, x in case.items() if isinstance(x, torch.Tensor)}
    owned = {x.untyped_storage().data_ptr() for x in tensors.values()}
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = scan(**{**case, **tensors}, backend=backend)
    assert y.requires_grad
    return sum(size for place, size in kept.items() if place not in owned), owned & kept.keys()


@pytest.mark.parametrize('backend', BACKENDS)
def test_memory_kept_for_the_backward_pass(backend):
    (few, arguments), (many, _) = (kept_bytes(d_state, backend) for d_state in (1, 16))
    assert len(arguments) == 9 - 1  # dt_weight is absent: the arguments themselves are what is kept
    steps = 2 * 640 * 4 * 2  # batch, tokens, channels, walks
    assert 0 < few <= steps / 8
    assert many <= 2 * steps
    assert many - few <= 15 / 8 * steps


def test_nothing_is_kept_without_gradients():
    case = scan_case(walks.rows(100), dtype=torch.float32)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(x), lambda x: x), torch.no_grad():
        scan(**case)
    assert not packed


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_goes_along_the_walk_only(backend):
    walk = walks.bidirectional(70)
    for value in (float('nan'), float('inf')):
        case = scan_case(walk, merge='none', dtype=torch.float32)
        clean = scan(**case, backend=backend)
        case['u'][0, :, 40, 2] = value
        y = scan(**case, backend=backend)
        bad = ~y.isfinite()
        assert bad[0, 0, 40:, 2].all()
        assert bad[0, 1, :41, 2].all()
        bad[0, 0, 40:, 2] = bad[0, 1, :41, 2] = False
        assert not bad.any()
        assert torch.equal(y[1], clean[1])


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('delta_softplus', [True, False])
def test_steps_so_large_that_the_decay_underflows(delta_softplus, backend):
    case = scan_case(WALKS['cross'], z=True, dtype=torch.float32, delta_softplus=delta_softplus)
    case['delta'] = case['delta'].abs() * 1e4
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    assert_same(results(scan, case, backend=backend), results(reference, exact), 1e-5, gradients=3)


@pytest.mark.parametrize('together', [1, 60, 120, 10**6], ids='{} elements a step together'.format)
@pytest.mark.parametrize('name', ['kinds', 'holes', 'steps'])
def test_chunks_side_by_side(name, together, monkeypatch):
    """However many chunks the PyTorch path takes at once: the same results, gradients and stored states."""
    monkeypatch.setattr(chunked, 'SIDE_BY_SIDE', together)  # 24 elements a step
    walk = walks.cross(13, 23) if name == 'kinds' else walks.local(13, 23, ('h', 'v_flip', 'w7', 'w2_flip'))
    order = 'step' if name == 'steps' else 'token'
    case = scan_case(
        walk, batch=1, channels=3, d_state=2, z=True, rank=2, u_order=order, param_order=order, dtype=torch.float64
    )
    case['A'] *= 1e-2  # states outlive chunks
    assert_same(results(scan, case, backend='torch'), results(reference, case), 1e-11)
    y, state = scan(**case, return_last_state=True, backend='torch')
    assert relative_error(state, scan_reference(**case)[1]) < 1e-11


def test_chunks_side_by_side_that_are_not_finite():
    """An infinite state stays infinite though the decay over a chunk underflows, and one after the other says so."""
    case = scan_case(walks.rows(200), batch=1, channels=2, d_state=1, D=False, delta_softplus=False, delta_bias=False,
                     dtype=torch.float32)  # fmt: skip
    case['delta'] = torch.full_like(case['delta'], 5.0)
    case['A'] = torch.full_like(case['A'], -1.0)
    case['B'][:, :, 3] = torch.inf
    y = scan(**case, backend='torch')
    assert y[:, :3].isfinite().all()
    assert y[:, 3:].isinf().all()
