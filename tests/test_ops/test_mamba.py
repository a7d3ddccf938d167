"""selective_scan_fn and causal_conv1d_fn: what code written for mamba-ssm and causal-conv1d relies on."""

import pytest
import torch
import torch.nn.functional as F

from mmvim.ops import causal_conv1d_fn, selective_scan_fn
from mmvim.ops.testing import BACKENDS, assert_same, relative_error, results

FLOATS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', request.param)
    return request.param


# The scan -------------------------------------------------------------------------------------------------------------


def scan_loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
    """The definition, step after step, in fp64."""
    (batch, channels, length), d_state = u.shape, A.shape[1]

    def per_step(x):  # (B, D, N, L)
        if x.dim() == 2:
            return x.view(1, channels, d_state, 1).expand(batch, -1, -1, length)
        x = x.unsqueeze(1) if x.dim() == 3 else x
        return x.repeat_interleave(channels // x.shape[1], 1)

    B, C = per_step(B), per_step(C)
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    h, ys = 0, []
    for t in range(length):
        d = delta[:, :, t, None]
        h = torch.exp(d * A) * h + d * B[..., t] * u[:, :, t, None]
        ys.append((h * C[..., t]).sum(-1))
    y = torch.stack(ys, -1)
    y = y if D is None else y + D[:, None] * u
    y = y if z is None else y * F.silu(z)
    return (y, h) if return_last_state else y


def scan_case(
    B='group', C='group', groups=1, z=True, D=True, bias=True, softplus=True, length=50, dtype=torch.float32, channels=6
):
    """B and C are 'constant', 'group' (B, N, L) or 'groups' (B, G, N, L)."""
    generator = torch.Generator().manual_seed(0)
    batch, d_state = 2, 4

    def normal(*shape, dtype=dtype):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def matrix(kind):
        if kind == 'constant':
            return normal(channels, d_state, dtype=weights)
        return normal(batch, d_state, length) if kind == 'group' else normal(batch, groups, d_state, length)

    weights = torch.promote_types(dtype, torch.float32)
    return {
        'u': normal(batch, channels, length),
        'delta': torch.rand(batch, channels, length, generator=generator).to(dtype) / 2,
        'A': -torch.rand(channels, d_state, generator=generator, dtype=weights),
        'B': matrix(B),
        'C': matrix(C),
        'D': normal(channels, dtype=weights) if D else None,
        'z': normal(batch, channels, length) if z else None,
        'delta_bias': normal(channels, dtype=weights).abs() / 2 if bias else None,
        'delta_softplus': softplus,
    }


def exact(case):
    return {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}


def check_scan(case, tolerance=1e-5, want=scan_loop):
    got = results(selective_scan_fn, case)
    assert_same(got, results(want, exact(case)), tolerance, gradients=3)
    assert got['y'].dtype == case['u'].dtype
    for name, x in case.items():
        if isinstance(x, torch.Tensor):
            assert got[f'd{name}'].dtype == x.dtype
    y, state = selective_scan_fn(**case, return_last_state=True)
    assert torch.equal(y, got['y'])
    assert relative_error(state, scan_loop(**exact(case), return_last_state=True)[1]) < tolerance
    return y


@pytest.mark.parametrize('dtype', FLOATS, ids=str)
@pytest.mark.parametrize('groups', [1, 2, 3])
@pytest.mark.parametrize('length', [1, 7, 128, 197])
def test_scan_lengths_groups_and_dtypes(length, groups, dtype):
    kind = 'group' if groups == 1 else 'groups'
    check_scan(scan_case(kind, kind, groups, length=length, dtype=dtype), FLOATS[dtype])


@pytest.mark.parametrize('option', ['z', 'D', 'bias', 'softplus'])
@pytest.mark.parametrize('groups', [1, 3])
def test_scan_without_an_option(option, groups):
    check_scan(scan_case('groups', 'groups', groups, **{option: False}))


def test_scan_with_the_least():
    case = scan_case(z=False, D=False, bias=False)
    least = [case[name] for name in ('u', 'delta', 'A', 'B', 'C')]
    assert relative_error(selective_scan_fn(*least), scan_loop(*least)) < 1e-5


@pytest.mark.parametrize(
    ('B', 'C'),
    [(B, C) for B in ('constant', 'group', 'groups') for C in ('constant', 'group', 'groups')],
)
def test_scan_constant_and_grouped_matrices(B, C):
    for dtype in (torch.float64, torch.bfloat16):
        check_scan(scan_case(B, C, groups=2, dtype=dtype), FLOATS.get(dtype, 1e-12))


def test_scan_mixed_dtypes():
    """B and C in fp32 with u, delta and z in half precision: nothing is rounded but the result."""
    case = scan_case(dtype=torch.float16)
    case |= {'B': torch.randn(2, 4, 50), 'C': torch.randn(2, 4, 50)}
    check_scan(case, 1e-3)
    _, state = selective_scan_fn(**case, return_last_state=True)
    assert relative_error(state, scan_loop(**exact(case), return_last_state=True)[1]) < 1e-5
    case |= {'u': case['u'].bfloat16()}
    assert check_scan(case, 8e-3).dtype == torch.bfloat16


def test_scan_positional_order():
    case = scan_case()
    order = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias', 'delta_softplus')
    y, state = selective_scan_fn(*(case[name] for name in order), True)
    assert torch.equal(y, selective_scan_fn(**case))
    assert state.shape == (2, 6, 4)


@pytest.mark.parametrize('groups', [1, 2])
def test_scan_layouts(groups):
    """Sequence last or channel last in memory, slices and expanded tensors; the result lies as u does."""
    kind = 'group' if groups == 1 else 'groups'
    case = scan_case(kind, kind, groups)
    want = results(selective_scan_fn, case)
    assert selective_scan_fn(**case).is_contiguous()
    for layout in (lambda x: x.mT.contiguous().mT, lambda x: torch.cat([x, x], 1)[:, : x.shape[1]]):

        def laid_out(layout=layout, **kwargs):
            changed = {name: layout(kwargs[name]) for name in ('u', 'delta', 'z', 'B', 'C')}
            return selective_scan_fn(**{**kwargs, **changed})

        assert_same(results(laid_out, case), want, 1e-5)
    u = case['u'].mT.contiguous().mT
    assert (selective_scan_fn(**{**case, 'u': u}).stride(1) == 1) == (groups == 1)
    case['u'] = case['u'][:1].expand(2, -1, -1)
    check_scan(case)


def test_last_state_has_no_gradient():
    case = scan_case()
    case['u'].requires_grad_()
    assert not selective_scan_fn(**case, return_last_state=True)[1].requires_grad


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'A': torch.zeros(6, 4, dtype=torch.complex64)}, TypeError, 'A is complex'),
        ({'A': torch.zeros(6)}, ValueError, r'u and A: expected .* got \(2, 6, 50\) and \(6,\)'),
        ({'A': torch.zeros(5, 4)}, ValueError, r'A: expected \(6, 4\), got \(5, 4\)'),
        ({'u': torch.zeros(2, 6, 0)}, ValueError, r'D and L not empty'),
        ({'u': torch.zeros(2, 0, 50)}, ValueError, r'D and L not empty'),
        ({'delta': torch.zeros(2, 6, 49)}, ValueError, r'delta: expected \(2, 6, 50\), got \(2, 6, 49\)'),
        ({'B': torch.zeros(2, 50, 4)}, ValueError, r'B: expected \(2, 4, 50\), got \(2, 50, 4\)'),
        ({'C': torch.zeros(4, 6)}, ValueError, r'C: expected \(6, 4\), got \(4, 6\)'),
        ({'C': torch.zeros(2, 4, 4, 50)}, ValueError, r"C: expected \(2, 'G', 4, 50\), got \(2, 4, 4, 50\)"),
        ({'B': torch.zeros(4)}, ValueError, r'B: expected .*, got \(4,\)'),
        (
            {'B': torch.zeros(2, 2, 4, 50), 'C': torch.zeros(2, 3, 4, 50)},
            ValueError,
            'same number of groups, got 2 and 3',
        ),
        ({'D': torch.zeros(5)}, ValueError, r'D: expected \(6,\), got \(5,\)'),
        ({'z': torch.zeros(2, 50, 6)}, ValueError, r'z: expected \(2, 6, 50\)'),
        ({'delta_bias': torch.zeros(1, 6)}, ValueError, r'delta_bias: expected \(6,\)'),
        ({'D': torch.zeros(6, device='meta')}, ValueError, 'D is on meta, the input on cpu'),
        ({name: torch.zeros(2, 6, 50).int() for name in ('u', 'delta', 'z')}, TypeError, 'expected one of float32'),
    ],
)
def test_scan_bad_input(change, error, message):
    case = scan_case() | change
    if case['u'].dtype == torch.int32:
        case |= {'B': case['B'].int(), 'C': case['C'].int()}
    with pytest.raises(error, match=message):
        selective_scan_fn(**case)


# The convolution ------------------------------------------------------------------------------------------------------


def conv_loop(x, weight, bias=None, initial_states=None, return_final_states=False, activation=None):
    history = weight.shape[1] - 1
    seen = torch.cat([x.new_zeros(*x.shape[:2], history) if initial_states is None else initial_states, x], -1)
    y = sum(weight[:, j, None] * seen[..., j : j + x.shape[-1]] for j in range(history + 1))
    y = y if bias is None else y + bias[:, None]
    y = F.silu(y) if activation else y
    return (y, seen[..., x.shape[-1] :]) if return_final_states else y


def conv_case(width=4, bias=True, initial=False, length=50, dtype=torch.float32, channels=6, channel_last=False):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, dtype=dtype):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = torch.promote_types(dtype, torch.float32)
    x = normal(2, channels + 3, length)[:, 1:-2]
    initial_states = normal(2, width - 1, channels).mT if initial else None
    return {
        'x': x.mT.contiguous().mT if channel_last else x,
        'weight': normal(channels, width, dtype=weights),
        'bias': normal(channels, dtype=weights) if bias else None,
        'initial_states': initial_states,
    }


def both(function):
    """Output and final states together, so that gradients come from both."""

    def call(**kwargs):
        y, states = function(**kwargs, return_final_states=True)
        return torch.cat([y, 3 * states], -1)

    return call


@pytest.mark.parametrize('dtype', FLOATS, ids=str)
@pytest.mark.parametrize('channel_last', [False, True])
@pytest.mark.parametrize('initial', [False, True])
@pytest.mark.parametrize(('width', 'bias', 'activation'), [(2, True, None), (3, False, 'silu'), (4, True, 'swish')])
def test_conv(width, bias, activation, initial, channel_last, dtype):
    for length in (1, 2, 8, 129):
        case = conv_case(width, bias, initial, length, dtype, channel_last=channel_last) | {'activation': activation}
        for form in (lambda function: function, both):
            got = results(form(causal_conv1d_fn), case)
            assert_same(got, results(form(conv_loop), exact(case)), FLOATS[dtype], gradients=3)
        assert got['dx'].dtype == got['y'].dtype == dtype
        assert got['dweight'].dtype == torch.float32


def test_conv_layout_of_the_result():
    assert causal_conv1d_fn(**conv_case()).is_contiguous()
    assert causal_conv1d_fn(**conv_case(channel_last=True)).stride(1) == 1


def test_conv_final_states_continue_the_sequence():
    case = conv_case(length=40)
    whole = causal_conv1d_fn(**case)
    first, states = causal_conv1d_fn(**{**case, 'x': case['x'][..., :1]}, return_final_states=True)
    out = torch.empty(2, 6, 3)
    rest, again = causal_conv1d_fn(
        case['x'][..., 1:], case['weight'], case['bias'], None, states, True, out, None
    )  # the order of causal-conv1d
    torch.testing.assert_close(torch.cat([first, rest], -1), whole)
    assert again is out
    assert torch.equal(out, case['x'][..., -3:])


def test_conv_gradcheck():
    tensors = [
        None if x is None else x.double().requires_grad_()
        for x in conv_case(width=3, initial=True, length=5, channels=2).values()
    ]
    assert torch.autograd.gradcheck(
        lambda x, w, b, s: causal_conv1d_fn(x, w, b, None, s, True, activation='silu'), tensors
    )


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'seq_idx': torch.zeros(2, 50, dtype=torch.int32)}, NotImplementedError, 'pass one sequence per row'),
        ({'activation': 'gelu'}, ValueError, "activation='gelu': expected None, 'silu' or 'swish'"),
        ({'x': torch.zeros(2, 6)}, ValueError, r'x and weight: expected .* got \(2, 6\) and \(6, 4\)'),
        ({'x': torch.zeros(2, 6, 0)}, ValueError, 'D, L and W not empty'),
        ({'weight': torch.zeros(6, 1, 4)}, ValueError, r'got \(2, 6, 50\) and \(6, 1, 4\)'),
        ({'weight': torch.zeros(5, 4)}, ValueError, r'weight: expected \(6, 4\), got \(5, 4\)'),
        ({'bias': torch.zeros(5)}, ValueError, r'bias: expected \(6,\), got \(5,\)'),
        ({'initial_states': torch.zeros(2, 6, 4)}, ValueError, r'initial_states: expected \(2, 6, 3\)'),
        ({'final_states_out': torch.zeros(2, 3, 6)}, ValueError, r'final_states_out: expected \(2, 6, 3\)'),
        ({'bias': torch.zeros(6, device='meta')}, ValueError, 'bias is on meta, the input on cpu'),
        ({'x': torch.zeros(2, 6, 50).long()}, TypeError, 'got torch.int64'),
    ],
)
def test_conv_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        causal_conv1d_fn(**conv_case() | change)


def test_compile():
    scan, conv = scan_case('groups', 'groups', 2), conv_case(initial=True)
    compiled = torch.compile(selective_scan_fn, fullgraph=True, backend='aot_eager')
    assert_same(results(compiled, scan), results(selective_scan_fn, scan), 1e-6)
    compiled = torch.compile(both(causal_conv1d_fn), fullgraph=True, backend='aot_eager')
    assert_same(results(compiled, conv), results(both(causal_conv1d_fn), conv), 1e-6)
