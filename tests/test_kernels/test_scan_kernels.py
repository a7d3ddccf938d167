"""The compiled scan: every instruction set, length, width, number of states, dtype, stride and awkward value."""

import pytest
import torch
import torch.nn.functional as F
from test_kernels.judge import ISAS, TOLERANCE, doubled, instruction_set, judge

from mmvim.ops import scan, walks
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import relative_error, results, scan_case

# Relative error of results that are not rounded: what functions of half-precision inputs may add, far below rounding.
HALVES = {torch.bfloat16: 3e-4, torch.float16: 3e-5}


@pytest.fixture(params=ISAS)
def isa(request):
    with instruction_set(request.param) as taken:
        assert taken == request.param
        yield


def test_the_plain_kernels_are_always_there():
    assert ISAS[0] == 'base'


@pytest.mark.parametrize('length', [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 197])
def test_lengths(length, isa):
    judge(scan_case(walks.bidirectional(length), z=True, dtype=torch.float32, channels=20))


@pytest.mark.parametrize('channels', [1, 7, 8, 16, 24, 48, 96, 100, 384])
def test_channels(channels, isa):
    judge(scan_case(walks.cross(5, 7), channels=channels, d_state=2, rank=3, z=True, dtype=torch.float32))


@pytest.mark.parametrize('d_state', [1, 2, 3, 4, 5, 8, 16, 23, 32])
def test_states(d_state, isa):
    judge(scan_case(walks.bidirectional(40), batch=1, channels=20, d_state=d_state, z=True, dtype=torch.float32))


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('rank', [None, 5])
def test_dtypes(dtype, rank, isa):
    for case in (
        scan_case(walks.cross(6, 7), batch=1, channels=21, rank=rank, z=True, per_walk=False, dtype=dtype),
        scan_case(walks.local(5, 7, ('h', 'w2')), channels=21, rank=rank, param_order='step', dtype=dtype),
        scan_case(walks.bidirectional(41), channels=21, rank=rank, z=True, merge='none', dtype=dtype),
        scan_case(walks.strided(5, 7), channels=21, rank=rank, z=True, merge='none', dtype=dtype),
    ):
        judge(case)


@pytest.mark.parametrize('dtype', HALVES)
def test_output_in_float32_is_not_rounded(dtype, isa):
    case = scan_case(walks.cross(5, 7), z=True, channels=20, dtype=dtype)
    want = scan_reference(**doubled(case))[0]
    got = scan(**case, out_dtype=torch.float32, backend='cpu')
    assert got.dtype == torch.float32
    assert relative_error(got, want) < HALVES[dtype]
    assert relative_error(scan(**case, backend='cpu'), want) > HALVES[dtype]


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('rank', [1, 6, 12, 48, 65])
def test_low_rank_in_half_precision(rank, dtype, isa):
    """Any number of pairs and a rest, one step, full tiles and beyond, walks with and without a table."""
    for walk in (walks.rows(1), walks.cross(3, 11), walks.bidirectional(65), walks.local(5, 7, ('h', 'w3_flip'))):
        # Of one step and rank 1 a gradient is one number for each image, some of which are what cancels: so several.
        batch = 8 if walk.num_steps == 1 else 1
        case = scan_case(walk, batch=batch, channels=37, d_state=1, rank=rank, dtype=dtype)
        case['dt_weight'] = case['dt_weight'] / rank**0.5
        judge(case)


def published_in_bfloat16(u, delta, A, B, C, D, *, walks, delta_bias, dt_weight, z, **flags):
    """What mamba-ssm's modules compute under autocast: the projection in bf16, the scan in fp32, its result in bf16."""
    delta = torch.einsum('kdr,bktr->bktd', dt_weight.bfloat16(), delta)
    u, delta, B, C, z = (x.float() for x in (u, delta, B, C, z))
    y, state = scan_reference(u, delta, A, B, C, D, walks=walks, delta_bias=delta_bias, z=z, **flags)
    return y.bfloat16(), state


@pytest.mark.parametrize('d_state', [1, 16])
def test_no_further_from_exact_than_the_published_code_in_bfloat16(d_state, isa):
    squares = {}
    for seed in range(4):
        case = scan_case(
            walks.bidirectional(65), channels=48, d_state=d_state, rank=6, z=True, dtype=torch.bfloat16, seed=seed
        )
        case['delta_bias'] = case['delta_bias'] - 4.6  # small steps, long memory
        case['dt_weight'] = case['dt_weight'] * 0.37  # not to be had in bf16
        want = results(scan_reference, doubled(case))
        ours, theirs = results(scan, case, backend='cpu'), results(published_in_bfloat16, case)
        for name, exact in want.items():
            errors = torch.tensor([relative_error(ours[name], exact), relative_error(theirs[name], exact)])
            squares[name] = squares.get(name, 0) + errors**2
    # Where both are but the rounding of the same gradient, they differ in the third digit.
    assert all(mine <= 1.02 * other for mine, other in squares.values()), squares


def table_of(missing, length):
    """Walks over one row of tokens in orders of their own, each without every token that its entry divides."""
    orders = [torch.randperm(length, generator=torch.Generator().manual_seed(k)) for k in range(len(missing))]
    left = [
        order.masked_fill(order % every == 0, -1) if every else order
        for order, every in zip(orders, missing, strict=True)
    ]
    return walks.from_table(torch.stack(left), 1, length)


# Rows that a walk leaves out are zeroed before it, or stay what others made of them: that depends on its place.
@pytest.mark.parametrize('merge', ['sum', 'none'])
@pytest.mark.parametrize('missing', [(0,), (3,), (0, 3), (3, 0), (3, 2)])
def test_tables_with_and_without_every_token(missing, merge):
    options = {'channels': 20, 'd_state': 2, 'dtype': torch.float32, 'merge': merge}
    for own in (True, False):
        walk = table_of(missing, 50)
        judge(scan_case(walk, z=own, per_walk=own, own_parameters=own, **options))
        judge(scan_case(walk, z=not own, rank=3, param_order='step' if own else 'token', **options))


def test_gradients_add_up_where_a_walk_visits_a_token_twice(monkeypatch):
    monkeypatch.setattr('mmvim.ops.tables.check_table', lambda *_: None)  # as under a tracer
    once = torch.randperm(50, generator=torch.Generator().manual_seed(0)).int()
    twice = once.clone()
    twice[10] = twice[40]
    for table in (torch.stack([twice, once]), torch.stack([once, twice]), twice[None]):
        case = scan_case(walks.Walks(1, 50, table=table), channels=20, d_state=2, dtype=torch.float32)
        want = results(lambda **arguments: scan_reference(**arguments)[0], doubled(case))
        got = results(scan, case, backend='cpu')
        assert all(relative_error(got[name], want[name]) < 1e-5 for name in want if name != 'y')


# One group of 16 channels and one batch are too little to share out, so walks of this length are cut into segments.
@pytest.mark.parametrize('merge', ['sum', 'none'])
@pytest.mark.parametrize('dtype', [dtype for dtype in TOLERANCE if dtype != torch.float16])
@pytest.mark.parametrize('name', ['bidirectional', 'cross', 'windows', 'first partial', 'last partial'])
def test_segments(name, dtype, merge):
    walk = {
        'bidirectional': walks.bidirectional(545),
        'cross': walks.cross(5, 109),
        'windows': walks.local(5, 109, ('h', 'w7_flip')),
        'first partial': table_of((3, 0), 545),
        'last partial': table_of((0, 3), 545),
    }[name]
    judge(scan_case(walk, batch=1, channels=9, d_state=2, z=True, merge=merge, dtype=dtype))


def test_many_small_segments_agree_with_one_pass():
    case = scan_case(walks.cross(64, 64), batch=1, channels=16, d_state=2, per_walk=False, dtype=torch.float32)
    wide = {  # the same channels four times over: enough units of work, no segments
        name: torch.cat([x] * 4, -1 if name in ('u', 'delta', 'D', 'delta_bias') else 1) if name in SPLIT else x
        for name, x in case.items()
    }
    narrow, whole = scan(**case, backend='cpu'), scan(**wide, backend='cpu')
    assert relative_error(narrow, whole[..., :16]) < 1e-5
    assert not torch.equal(narrow, whole[..., :16])  # else there were no segments


SPLIT = ('u', 'delta', 'A', 'D', 'delta_bias')


@pytest.mark.parametrize('raw', [-50.0, -20.0, -8.0, 0.0, 20.0, 21.0, 88.0, 1e4])
def test_delta_from_tiny_to_huge(raw, isa):
    case = scan_case(walks.bidirectional(70), channels=17, z=True, dtype=torch.float32)
    case['delta_bias'] = torch.full_like(case['delta_bias'], raw)
    case['delta'] = case['delta'] * 0.1
    judge(case)


def test_decays_that_underflow_leave_finite_gradients(isa):
    case = scan_case(walks.bidirectional(70), channels=17, dtype=torch.float32)
    case['delta'] = torch.full_like(case['delta'], 1e30)
    outcome = results(scan, case, backend='cpu')
    assert all(x.isfinite().all() for x in outcome.values())


@pytest.mark.parametrize('scale', [-1e-6, -1e4, 0.0])
def test_memory_from_endless_to_none(scale):
    case = scan_case(walks.bidirectional(4097), batch=1, channels=3, d_state=2, dtype=torch.float32)
    case['A'] = torch.full_like(case['A'], scale)
    want = scan_reference(**{k: v.double() if isinstance(v, torch.Tensor) else v for k, v in case.items()})
    got = scan(**case, backend='cpu', return_last_state=True)
    assert relative_error(got[0], want[0]) < 1e-5 and relative_error(got[1], want[1]) < 1e-5


def test_zeros():
    case = {k: torch.zeros_like(v) if isinstance(v, torch.Tensor) else v for k, v in scan_case(walks.rows(40)).items()}
    assert (scan(**case, backend='cpu') == 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_slices_of_larger_tensors_are_read_in_place(dtype):
    """delta, B, C as slices of one product, z as half of another, all of them one element off any alignment."""
    walk, batch, channels, d_state, rank = walks.cross(5, 7), 2, 24, 4, 3
    case = scan_case(walk, batch=batch, channels=channels, d_state=d_state, rank=rank, z=True, dtype=dtype)
    length, count = walk.num_tokens, walk.num_walks

    def slices(*parts: torch.Tensor) -> list[torch.Tensor]:
        """Parts (..., C_i) as neighbouring columns of one tensor with an odd offset and the walks innermost."""
        widths = [part.shape[-1] for part in parts]
        joint = torch.cat(parts, -1)
        storage = torch.full((joint.numel() + 1,), torch.nan, dtype=dtype)
        view = storage[1:].view(batch, length, -1, sum(widths))
        whole = view.transpose(1, 2) if joint.dim() == 4 else view[:, :, 0]
        whole.copy_(joint)
        assert whole.data_ptr() % 16
        return list(whole.split(widths, -1))

    expected = dict(case)
    case['delta'], case['B'], case['C'] = slices(case['delta'], case['B'], case['C'])
    case['z'] = slices(torch.randn_like(case['z']), case['z'])[1]
    case['u'] = slices(case['u'])[0]
    assert case['delta'].shape == (batch, count, length, rank) and not case['delta'].is_contiguous()
    assert torch.equal(scan(**case, backend='cpu'), scan(**expected, backend='cpu'))


def test_expanded_batch_and_gradient():
    case = scan_case(walks.bidirectional(40), batch=1, channels=20, dtype=torch.float32)
    repeated = {k: torch.cat([v] * 3) if k in ('u', 'delta', 'B', 'C') else v for k, v in case.items()}
    expanded = {k: v.expand(3, -1, -1, -1) if k in ('u', 'delta', 'B', 'C') else v for k, v in case.items()}
    outcomes = []
    for arguments in (repeated, expanded):
        u = arguments['u'].clone(memory_format=torch.preserve_format).requires_grad_()
        y = scan(**{**arguments, 'u': u}, backend='cpu')
        outcomes += [torch.autograd.grad(y.sum(), u)[0], y]  # the gradient of a sum has strides 0
    assert torch.equal(outcomes[0], outcomes[2]) and torch.equal(outcomes[1], outcomes[3])


@pytest.mark.parametrize('permutation', [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_gradient_with_any_strides(permutation):
    case = scan_case(walks.bidirectional(37), channels=20, z=True, dtype=torch.float32)
    u = case.pop('u').requires_grad_()
    y = scan(u, **case, backend='cpu')
    g = torch.randn(y.shape)
    back = [permutation.index(i) for i in range(3)]
    strided = g.permute(permutation).contiguous().permute(back)
    assert strided.stride() != g.stride()
    first, second = (torch.autograd.grad(y, u, grad, retain_graph=True)[0] for grad in (g, strided))
    assert torch.equal(first, second)


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
@pytest.mark.parametrize('name', ['u', 'delta', 'B', 'C'])
@pytest.mark.parametrize('kind', range(4))
def test_what_is_not_finite_stays_behind_on_the_walk(kind, name, value, isa):
    walk = walks.Walks(9, 8, (kind,))
    case = scan_case(walk, batch=1, channels=20, delta_softplus=False, delta_bias=False, dtype=torch.float32)
    case['delta'] = case['delta'].abs()
    clean = scan(**case, backend='cpu')
    order, step = walk.tokens()[0], 40
    case[name][:, :, order[step]] = value
    y = scan(**case, backend='cpu')
    before, here, after = order[:step], order[step], order[step + 1 :]
    assert torch.equal(y[:, before], clean[:, before])
    assert not y[:, here].isfinite().any()
    if name == 'C':
        assert torch.equal(y[:, after], clean[:, after])
    elif torch.tensor(value).isnan():
        assert y[:, after].isnan().all()


@pytest.mark.parametrize('v', [torch.nan, torch.inf, -torch.inf])
def test_softplus_and_gate_of_what_is_not_finite(v, isa):
    case = scan_case(walks.rows(5), batch=1, channels=3, z=True, dtype=torch.float32)
    case['z'][0, 2, 1] = v
    y = scan(**case, backend='cpu')
    assert y[0, 2, 1].isfinite() == F.silu(torch.tensor(v)).isfinite()
    y[0, 2, 1] = 0
    assert y.isfinite().all()
    case['z'][0, 2, 1] = 0
    case['delta'][0, 0, 2, 1] = v
    y = scan(**case, backend='cpu')
    assert y[0, :2].isfinite().all() and y[0, :, [0, 2]].isfinite().all()
    assert y[0, 2:, 1].isfinite().all() == (v == -torch.inf)
