"""The shim's functions against formulas that are written out here."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.ops import causal_conv1d_fn, selective_scan_fn
from mmvim.shim import MODULES, convs, inner, norms, refs, steps
from mmvim.shim.mamba import InferenceParams, Mamba

close = torch.testing.assert_close


@pytest.fixture
def double() -> Iterator[None]:
    """fp64, where the operators and the formulas agree to the last bits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, silu: bool = False) -> Tensor:
    """(B, D, L), tap after tap."""
    width, length = weight.shape[1], x.shape[-1]
    padded = F.pad(x, (width - 1, 0))
    y = sum(weight[:, tap, None] * padded[..., tap : tap + length] for tap in range(width))
    y = y if bias is None else y + bias[:, None]
    return y * torch.sigmoid(y) if silu else y


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor) -> Tensor:
    """u, delta and z (B, D, L), B and C (B, N, L), one state at a time."""
    y = torch.zeros_like(u)
    for n in range(A.shape[1]):
        state, ys = torch.zeros_like(u[..., 0]), []
        for t in range(u.shape[-1]):
            state = torch.exp(delta[..., t] * A[:, n]) * state + delta[..., t] * u[..., t] * B[:, n, t, None]
            ys.append(state * C[:, n, t, None])
        y = y + torch.stack(ys, -1)
    return (y + u * D[:, None]) * z * torch.sigmoid(z)


def mixer(xz, conv_w, conv_b, x_proj, dt_proj, A, D, dt_bias) -> Tensor:
    """Mamba behind its first projection and before its last, (B, D, L); A of one direction or of two."""
    x, z = xz.chunk(2, 1)
    x = conv(x, conv_w.squeeze(1), conv_b, silu=True)
    rank, states = dt_proj.shape[1], A[0].shape[1]
    projected = torch.einsum('rd,bdl->brl', x_proj, x)
    low, B, C = projected[:, :rank], projected[:, rank : rank + states], projected[:, rank + states :]
    delta = torch.log1p(torch.exp(torch.einsum('dr,brl->bdl', dt_proj, low) + dt_bias[:, None]))
    y = scan(x, delta, A[0], B, C, D, z)
    if len(A) == 2:
        y = y + scan(*(t.flip(-1) for t in (x, delta)), A[1], B.flip(-1), C.flip(-1), D, z.flip(-1)).flip(-1)
    return y


def mixer_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    d, n, r = 6, 3, 2
    shapes = {'xz': (2, 2 * d, 7), 'conv1d_weight': (d, 1, 4), 'conv1d_bias': (d,), 'x_proj_weight': (r + 2 * n, d),
              'delta_proj_weight': (d, r), 'out_proj_weight': (5, d), 'out_proj_bias': (5,), 'D': (d,),
              'delta_bias': (d,)}  # fmt: skip
    tensors = {name: torch.randn(shape, dtype=torch.float64) / 2 for name, shape in shapes.items()}
    tensors |= {'A': -torch.rand(d, n, dtype=torch.float64), 'A_b': -torch.rand(d, n, dtype=torch.float64)}
    return {name: t.requires_grad_() for name, t in tensors.items()}


@pytest.mark.parametrize(
    ('function', 'directions', 'projects'),
    [
        (inner.mamba_inner_fn, 1, True),
        (inner.mamba_inner_ref, 1, True),
        (inner.mamba_inner_fn_no_out_proj, 1, False),
        (inner.bimamba_inner_fn, 2, True),
    ],
    ids=['fn', 'ref', 'no_out_proj', 'bimamba'],
)
def test_inner_functions(function, directions, projects):
    t = mixer_tensors()
    names = ['xz', 'conv1d_weight', 'conv1d_bias', 'x_proj_weight', 'delta_proj_weight']
    names += ['out_proj_weight', 'out_proj_bias'] if projects else []
    names += ['A', 'A_b'][:directions]
    got = function(*(t[name] for name in names), None, None, t['D'], delta_bias=t['delta_bias'], delta_softplus=True)
    want = mixer(*(t[name] for name in names[:5]), [t['A'], t['A_b']][:directions], t['D'], t['delta_bias'])
    if projects:
        want = want.transpose(1, 2) @ t['out_proj_weight'].T + t['out_proj_bias']
    close(got, want)
    leaves = [t[name] for name in [*names, 'D', 'delta_bias']]
    cotangent = torch.randn_like(want)
    for mine, his in zip(torch.autograd.grad(got, leaves, cotangent), torch.autograd.grad(want, leaves, cotangent),
                         strict=True):  # fmt: skip
        close(mine, his)


def test_inner_function_with_given_and_with_normed_parameters():
    """As FalconMamba norms them; a B that is given is taken as it is."""
    t = {name: tensor.detach() for name, tensor in mixer_tensors().items()}
    weights = [torch.rand(k, dtype=torch.float64) for k in (3, 3, 6)]
    names = ['conv1d_weight', 'conv1d_bias', 'x_proj_weight', 'delta_proj_weight', 'out_proj_weight', 'out_proj_bias']
    head = [t['xz'], *(t[name] for name in names), t['A']]
    given = torch.randn(2, 3, 7, dtype=torch.float64)
    got = inner.mamba_inner_fn(
        *head, given, None, t['D'], t['delta_bias'], C_proj_bias=t['D'][:3], b_rms_weight=weights[0],
        c_rms_weight=weights[1], dt_rms_weight=weights[2], b_c_dt_rms_eps=1e-3,
    )  # fmt: skip

    x, z = t['xz'].chunk(2, 1)
    x = conv(x, t['conv1d_weight'].squeeze(1), t['conv1d_bias'], silu=True)
    low, _, C = torch.einsum('rd,bdl->blr', t['x_proj_weight'], x).split([2, 3, 3], -1)
    C = C + t['D'][:3]
    delta = low @ t['delta_proj_weight'].T
    pairs = (delta, weights[2]), (C, weights[1])
    delta, C = (v / (v.square().mean(-1, keepdim=True) + 1e-3).sqrt() * w for v, w in pairs)
    delta = torch.log1p(torch.exp(delta + t['delta_bias'])).transpose(1, 2)
    y = scan(x, delta, t['A'], given, C.transpose(1, 2), t['D'], z)
    close(got, y.transpose(1, 2) @ t['out_proj_weight'].T + t['out_proj_bias'])


@pytest.mark.parametrize('groups', [None, 2], ids=['B N L', 'B G N L'])
def test_refs_do_what_the_operators_do(groups, double):
    torch.manual_seed(0)
    u, delta, z = (torch.randn(2, 4, 9) for _ in range(3))
    B, C = (torch.randn(2, *([groups] if groups else []), 3, 9) for _ in range(2))
    args = (u, delta, -torch.rand(4, 3), B, C, torch.randn(4), z, torch.randn(4), True, True)
    for mine, his in zip(refs.selective_scan_ref(*args), selective_scan_fn(*args), strict=True):
        close(mine, his)
    constant = (*args[:3], torch.randn(4, 3), torch.randn(4, 3))
    close(refs.selective_scan_ref(*constant), selective_scan_fn(*constant))
    x, weight, initial = torch.randn(2, 4, 2), torch.randn(4, 4), torch.randn(2, 4, 3)
    args = (x, weight, torch.randn(4))
    rest = {'initial_states': initial, 'return_final_states': True, 'activation': 'silu'}
    for mine, his in zip(refs.causal_conv1d_ref(*args, **rest), causal_conv1d_fn(*args, **rest), strict=True):
        close(mine, his)
    close(refs.causal_conv1d_ref(*args), conv(*args))
    for function, rest in ((convs.causal_conv1d_fwd, ()), (convs.causal_conv1d_bwd, (x,))):
        more = (None,) if rest else ()
        with pytest.raises(NotImplementedError, match='seq_idx: several sequences'):
            function(x, weight, None, *rest, torch.zeros(2, 2), *more, True)
    with pytest.raises(TypeError, match='A must be real'):
        refs.selective_scan_ref(u, delta, -torch.rand(4, 3) + 1j, B, C)


@pytest.mark.parametrize('heads', [None, 4])
def test_selective_state_update(heads, double):
    """Token by token as the whole sequence at once; Mamba-2's heads are as many channels in groups."""
    torch.manual_seed(0)
    channels = 6 if heads is None else 3
    axis = () if heads is None else (heads,)
    u, delta, z = (torch.randn(2, *axis, channels, 5) for _ in range(3))
    A, D, bias = -torch.rand(*axis, channels, 3), torch.randn(*axis, channels), torch.randn(*axis, channels)
    B, C = (torch.randn(2, *([] if heads is None else [2]), 3, 5) for _ in range(2))
    flat = [t if heads is None else t.flatten(1, 2) for t in (u, delta, z)]
    flat_parameters = [A, D, bias] if heads is None else [t.flatten(0, 1) for t in (A, D, bias)]
    want, last = selective_scan_fn(
        flat[0], flat[1], flat_parameters[0], B, C, flat_parameters[1], flat[2], flat_parameters[2], True, True
    )
    pool, rows = torch.full((4, *axis, channels, 3), 9.0), torch.tensor([2, 0])
    state, pool[rows] = torch.zeros(2, *axis, channels, 3), 0.0
    for t in range(5):
        args = (u[..., t], delta[..., t], A, B[..., t], C[..., t], D, z[..., t], bias, True)
        y = steps.selective_state_update(state, *args)
        close(y.reshape(2, -1), want[..., t])
        close(steps.selective_state_update(pool, *args, state_batch_indices=rows), y)
    close(state.reshape(last.shape), last)
    close(pool[rows], state)
    assert (pool[[1, 3]] == 9).all()
    with pytest.raises(ValueError, match=r'expected \(B\[, H\], D, N\)'):
        steps.selective_state_update(state, u[..., :2, 0], *args[1:])


@pytest.mark.parametrize('length', [3, 5], ids=['history alone', 'longer state'])
def test_causal_conv1d_update(length):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 6, 11), torch.randn(6, 4), torch.randn(6)
    want = conv(x, weight, bias, silu=True)
    moving, ring, pool = torch.zeros(2, 6, length), torch.zeros(2, 6, length), torch.zeros(3, 6, length)
    rows, cuts = torch.tensor([2, 0]), [0, 1, 2, 4, 7, 8, 11]
    for begin, end in pairwise(cuts):
        new = x[..., begin:end] if end - begin > 1 else x[..., begin]
        part = want[..., begin:end].reshape(new.shape)
        close(steps.causal_conv1d_update(new, moving, weight, bias, 'silu'), part)
        seen = torch.tensor([begin, begin], dtype=torch.int32)
        close(steps.causal_conv1d_update(new, ring, weight, bias, 'silu', seen), part)
        close(steps.causal_conv1d_update(new, pool, weight, bias, 'silu', None, rows), part)
        assert torch.equal(moving[..., -1], x[..., end - 1])
        assert torch.equal(ring[..., (end - 1) % length], x[..., end - 1])
    assert torch.equal(pool[rows], moving)
    assert (pool[1] == 0).all()
    with pytest.raises(ValueError, match='expected at least 3 inputs, got 2'):
        steps.causal_conv1d_update(x[..., 0], moving[..., :2], weight)


@pytest.mark.parametrize('release', ['1.0', '1.1', '1.5', '1.6'])
@pytest.mark.parametrize('silu', [False, True])
def test_compiled_convolution(release, silu):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s, requires_grad=True) for s in ((2, 6, 9), (6, 4), (6,)))
    initial = torch.randn(2, 6, 3, requires_grad=True)
    states = release in ('1.5', '1.6')
    y = conv(torch.cat([initial, x], -1), weight, bias, silu)[..., 3:] if states else conv(x, weight, bias, silu)
    dout, out, final = torch.randn_like(y), torch.empty_like(y), torch.empty(2, 6, 3)
    leaves = [x, weight, bias, *([initial] if states else [])]
    want = torch.autograd.grad(y, leaves, dout)
    plain = [t.detach() for t in leaves[:3]]
    front = initial.detach()
    between = {'1.0': [], '1.1': [None], '1.5': [None, front, final], '1.6': [None, front, out, final]}[release]
    got = convs.causal_conv1d_fwd(*plain, *between, silu)
    close(got if release != '1.6' else out, y.detach())
    assert (got is None) == (release == '1.6')
    if states:
        assert torch.equal(final, x.detach()[..., -3:])

    # Vim returns the tensor that it gave for dx, so it has to be filled; it is half of a larger one.
    dx = torch.empty(2, 12, 9)[:, :6]
    filled = [torch.empty_like(t) for t in leaves[1:]]
    between = {'1.0': [dx], '1.1': [None, dx], '1.5': [None, front, None, dx, True],
               '1.6': [None, front, None, dx, *filled]}[release]  # fmt: skip
    with torch._C._AutoDispatchBelowAutograd():  # as inside a custom operator, which is what release 1.7 calls it from
        got = convs.causal_conv1d_bwd(*plain, dout, *between, silu)
    got = got if release != '1.6' else (dx, *filled)
    for mine, his in zip(got, want if states else want[:3], strict=True):
        close(mine, his)
    assert torch.equal(dx, got[0])
    for function in (convs.causal_conv1d_fwd, convs.causal_conv1d_bwd):
        with pytest.raises(TypeError, match='arguments, got 9'):
            function(*[x] * 9)


def test_compiled_convolution_through_its_final_states_and_step_by_step():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 9), torch.randn(6, 4)
    dfinal = torch.randn(2, 6, 3)
    dx, dweight, dbias, dinitial = convs.causal_conv1d_bwd(
        x, weight, None, torch.zeros_like(x), None, None, dfinal, None, False, True
    )
    assert dbias is None
    assert dinitial is None
    assert torch.equal(dx, F.pad(dfinal, (6, 0)))
    assert not dweight.any()
    state, out = torch.zeros(2, 6, 3), torch.empty(2, 6, 2)
    first = convs.causal_conv1d_update_into(x[..., :7], state, weight, None, True)
    assert convs.causal_conv1d_update_into(x[..., 7:], state, weight, None, out, True, None, None) is None
    close(torch.cat([first, out], -1), conv(x, weight, silu=True))


@pytest.mark.parametrize('rms', [True, False], ids=['rms', 'layer'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_norms(rms, dtype):
    torch.manual_seed(0)
    x, residual = torch.randn(2, 5, 8).to(dtype), torch.randn(2, 5, 8)
    weight, bias, scale = torch.randn(8), torch.randn(8), torch.rand(2, 5)
    function = norms.rms_norm_fn if rms else norms.layer_norm_fn

    def normed(total: Tensor) -> Tensor:
        centred = total if rms else total - total.mean(-1, keepdim=True)
        return (centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight + bias).to(dtype)

    y, total = function(x, weight, bias, residual, eps=1e-3, prenorm=True)
    close(total, x.float() + residual)
    close(y, normed(x.float() + residual))
    close(function(x, weight, bias, eps=1e-3, rowscale=scale), normed(x.float() * scale[..., None]))
    assert function(x, weight, None, prenorm=True)[1].dtype == dtype
    assert function(x, weight, None, prenorm=True, residual_in_fp32=True)[1].dtype == torch.float32
    assert function(x, weight, None, residual.to(dtype), prenorm=True, residual_in_fp32=True)[1].dtype == dtype
    assert not function(x, weight, None, dropout_p=1.0).any()
    with pytest.raises(NotImplementedError, match='does not cover x1'):
        function(x, weight, bias, x1=x)


def test_rms_norm_module():
    torch.manual_seed(0)
    layer = norms.RMSNorm(8, dropout_p=1.0)
    assert layer.state_dict().keys() == {'weight'}
    x, residual = torch.randn(3, 8), torch.randn(3, 8)
    y, total = layer(x, residual, prenorm=True)
    assert torch.equal(total, residual)
    y, total = layer.eval()(x, residual, prenorm=True)
    assert torch.equal(total, x + residual)
    close(y, nn.functional.rms_norm(total, (8,), eps=1e-5))


def test_mamba():
    torch.manual_seed(0)
    layer = Mamba(16, d_state=3, bias=True, layer_idx=0)
    assert list(layer.state_dict()) == [
        'A_log', 'D', 'in_proj.weight', 'in_proj.bias', 'conv1d.weight', 'conv1d.bias', 'x_proj.weight',
        'dt_proj.weight', 'dt_proj.bias', 'out_proj.weight', 'out_proj.bias',
    ]  # fmt: skip
    assert 1e-3 <= F.softplus(layer.dt_proj.bias).min() <= F.softplus(layer.dt_proj.bias).max() <= 0.1 + 1e-6
    x = torch.randn(2, 7, 16)
    y = mixer(
        layer.in_proj(x).transpose(1, 2), layer.conv1d.weight, layer.conv1d.bias, layer.x_proj.weight,
        layer.dt_proj.weight, [-layer.A_log.exp()], layer.D, layer.dt_proj.bias,
    )  # fmt: skip
    want = layer.out_proj(y.transpose(1, 2))
    close(layer(x), want)
    called = []
    for name, module in layer.named_children():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    layer(x)
    assert called == ['in_proj', 'x_proj', 'dt_proj', 'out_proj']


@pytest.mark.parametrize('first', [2, 6], ids=['shorter than the convolution', 'longer'])
def test_mamba_token_by_token(first):
    torch.manual_seed(0)
    layer = Mamba(16, d_state=3, layer_idx=4)
    x = torch.randn(2, 9, 16)
    state = InferenceParams(max_seqlen=9, max_batch_size=2)
    with torch.no_grad():
        want, parts = layer(x), [layer(x[:, :first], inference_params=state)]
        for t in range(first, 9):
            state.seqlen_offset = t
            parts.append(layer(x[:, t : t + 1], inference_params=state))
    close(torch.cat(parts, 1), want)
    assert list(state.key_value_memory_dict) == [4]
    state.reset(5, 1)
    assert (state.max_seqlen, state.max_batch_size, state.seqlen_offset) == (5, 1, 0)
    with pytest.raises(ValueError, match='expected one token a step'):
        layer.step(x, *layer.allocate_inference_cache(2, 9))
    with pytest.raises(ValueError, match='layer_idx=None'):
        Mamba(16)(x, inference_params=state)


def test_names_stand_where_code_looks_for_them():
    for module in ('mamba_ssm', 'mamba_ssm.modules.mamba_simple'):
        assert MODULES[module]['Mamba'] is Mamba
    for module in ('mamba_ssm', 'mamba_ssm.ops.triton.selective_state_update'):
        assert MODULES[module]['selective_state_update'] is steps.selective_state_update
    assert MODULES['mamba_ssm.ops.selective_scan_interface']['selective_scan_ref'] is refs.selective_scan_ref
    for name in ('Mamba2', 'MambaLMHeadModel'):
        with pytest.raises(NotImplementedError, match=f'does not cover {name}: .*(mamba-ssm|transformers)'):
            MODULES['mamba_ssm'][name]()
