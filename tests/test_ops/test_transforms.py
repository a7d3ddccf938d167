"""torch.func and forward mode: compared with autograd, and with differences where autograd has nothing to say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad

from mmvim.models.backbones.vim_mixer import BidirectionalMixer
from mmvim.models.backbones.vmamba_mixer import SS2D
from mmvim.ops import causal_conv1d_fn, scan, selective_scan_fn, walk_conv, walks
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import BACKENDS, TENSORS, WIDE, scan_case

WALKS = {'kinds': walks.cross(3, 4), 'table': walks.local(3, 4, ('w2', 'h_flip'))}
TOLERANCE = {'rtol': 1e-6, 'atol': 1e-8} if torch.finfo(WIDE).bits == 64 else {'rtol': 1e-3, 'atol': 1e-4}


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', request.param)


def scan_of(walk, **options) -> tuple[Callable, tuple[Tensor, ...]]:
    case = scan_case(walk, **options)
    names = [name for name in TENSORS if case[name] is not None]

    def function(*tensors: Tensor) -> Tensor:
        return scan(**{**case, **dict(zip(names, tensors, strict=True))})

    return function, tuple(case[name] for name in names)


def conv_of(walk, **options) -> tuple[Callable, tuple[Tensor, ...]]:
    tensors = (
        torch.randn(2, walk.num_tokens, 5, dtype=WIDE),
        torch.randn(walk.num_walks, 5, 3, dtype=WIDE),
        torch.randn(walk.num_walks, 5, dtype=WIDE),
    )
    return lambda *tensors: walk_conv(*tensors, walks=walk, **options), tensors


def sequences(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=WIDE)


def mamba_scan() -> tuple[Callable, tuple[Tensor, ...]]:
    u, delta, B, C = sequences(2, 4, 9), sequences(2, 4, 9), sequences(2, 3, 9), sequences(2, 3, 9)
    return (lambda *args: selective_scan_fn(*args, delta_softplus=True)), (u, delta, -torch.rand(4, 3).to(WIDE), B, C)


def mamba_conv() -> tuple[Callable, tuple[Tensor, ...]]:
    return (lambda *args: causal_conv1d_fn(*args, activation='silu')), (
        sequences(2, 4, 9),
        sequences(4, 3),
        sequences(4),
    )


CASES = {
    'scan': lambda: scan_of(WALKS['kinds'], z=True, rank=2, scale=0.5),
    'scan, table': lambda: scan_of(WALKS['table'], merge='none', z=True, own_parameters=False, per_walk=False),
    'scan, steps': lambda: scan_of(WALKS['table'], u_order='step', param_order='step'),
    'conv': lambda: conv_of(WALKS['kinds']),
    'conv, steps': lambda: conv_of(WALKS['table'], order='step', activation=None),
    'selective_scan_fn': mamba_scan,
    'causal_conv1d_fn': mamba_conv,
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Callable, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return CASES[request.param]()


def everything(case) -> tuple[int, ...]:
    return tuple(range(len(case[1])))


def gradients(function: Callable, tensors: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, ...]:
    """By autograd, of the sum of the results times ``weight``."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    return torch.autograd.grad((function(*leaves) * weight).sum(), leaves)


def test_jvp(case):
    """<weight, J v> = <J^T weight, v>, with the gradient that autograd gives on the right."""
    function, tensors = case
    tangents = tuple(torch.randn_like(x) for x in tensors)
    y, dy = func.jvp(function, tensors, tangents)
    torch.testing.assert_close(y, function(*tensors), **TOLERANCE)
    weight = torch.randn_like(y)
    want = sum((g * t).sum() for g, t in zip(gradients(function, tensors, weight), tangents, strict=True))
    torch.testing.assert_close((weight * dy).sum(), want, **TOLERANCE)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(tensors, tangents, strict=True)]
        torch.testing.assert_close(forward_ad.unpack_dual(function(*duals)).tangent, dy, **TOLERANCE)


def test_grad_and_vjp(case):
    function, tensors = case
    weight = torch.randn_like(function(*tensors))
    want = gradients(function, tensors, weight)
    got = func.grad(lambda *args: (function(*args) * weight).sum(), everything(case))(*tensors)
    torch.testing.assert_close(got, want, **TOLERANCE)
    y, pull = func.vjp(function, *tensors)
    torch.testing.assert_close(pull(weight), want, **TOLERANCE)
    torch.testing.assert_close(y, function(*tensors), **TOLERANCE)


def test_jvp_of_the_last_state():
    torch.manual_seed(0)
    case = scan_case(WALKS['kinds'], batch=1, channels=2)
    u, tangent = case.pop('u'), torch.randn(1, 4, 12, 2, dtype=WIDE)

    def last_state(u: Tensor) -> Tensor:
        return scan(u, **case, return_last_state=True)[1]

    _, got = func.jvp(last_state, (u,), (tangent,))
    torch.testing.assert_close(got, last_state(tangent), **TOLERANCE)  # it is linear in u


@pytest.mark.parametrize('argument', [0, 2])  # one that merges into the batch, and a parameter that cannot
def test_jacrev(argument):
    torch.manual_seed(0)
    function, tensors = scan_of(WALKS['kinds'], batch=1, channels=2, d_state=2)

    def flat(x: Tensor) -> Tensor:
        return function(*tensors[:argument], x, *tensors[argument + 1 :]).flatten()

    x = tensors[argument]
    want = torch.autograd.functional.jacobian(flat, x)
    torch.testing.assert_close(func.jacrev(flat)(x), want, **TOLERANCE)
    torch.testing.assert_close(func.jacfwd(flat)(x), want, **TOLERANCE)


def test_second_derivatives():
    torch.manual_seed(0)
    walk = WALKS['kinds']
    function, tensors = scan_of(walk, batch=1, channels=2, d_state=2, D=False, delta_bias=False)
    u, delta, A, B, C = tensors

    def loss(delta: Tensor) -> Tensor:
        return function(u, delta, A, B, C).square().sum()

    def judge(delta: Tensor) -> Tensor:
        return scan_reference(u, delta, A, B, C, walks=walk)[0].square().sum()

    want = torch.autograd.functional.hessian(judge, delta)
    torch.testing.assert_close(func.hessian(loss)(delta), want, **TOLERANCE)
    along = torch.randn_like(delta)
    _, got = func.vjp(func.grad(loss), delta)
    torch.testing.assert_close(got(along)[0], (want * along).sum((-4, -3, -2, -1)), **TOLERANCE)


def test_vmap(case):
    """Over every argument alone, and over all."""
    function, tensors = case
    stacked = tuple(torch.stack([x, 0.5 * x, x.roll(1, -1)], 1) for x in tensors)
    for chosen in (*((i,) for i in everything(case)), everything(case)):
        args = [stacked[i] if i in chosen else x for i, x in enumerate(tensors)]
        got = func.vmap(function, tuple(1 if i in chosen else None for i in everything(case)))(*args)
        want = [function(*(x[:, v] if i in chosen else x for i, x in enumerate(args))) for v in range(3)]
        torch.testing.assert_close(got, torch.stack(want), **TOLERANCE)


@pytest.mark.parametrize('outer', [False, True], ids=['vmap of grad', 'grad of vmap'])
def test_gradient_of_every_sample(case, outer):
    function, tensors = case
    stacked = tuple(torch.stack([x, 0.5 * x, x.roll(1, -1)]) for x in tensors)
    weight = torch.randn_like(function(*tensors))

    def loss(*args: Tensor) -> Tensor:
        return (function(*args) * weight).sum()

    if outer:
        got = func.grad(lambda *args: func.vmap(loss)(*args).sum(), everything(case))(*stacked)
    else:
        got = func.vmap(func.grad(loss, everything(case)))(*stacked)
    want = [gradients(function, tuple(x[v] for x in stacked), weight) for v in range(3)]
    torch.testing.assert_close(got, tuple(map(torch.stack, zip(*want, strict=True))), **TOLERANCE)


def test_autograd_around_vmap(case):
    function, tensors = case
    leaves = [torch.stack([x, 0.5 * x]).requires_grad_() for x in tensors]
    y = func.vmap(function)(*leaves)
    want = [gradients(function, tuple(x[v].detach() for x in leaves), torch.ones_like(y[v])) for v in range(2)]
    got = torch.autograd.grad(y.sum(), leaves)
    torch.testing.assert_close(got, tuple(map(torch.stack, zip(*want, strict=True))), **TOLERANCE)


MIXERS = {
    'vim': (lambda: BidirectionalMixer(8, d_state=4), (5, 12, 8)),
    'vmamba': (lambda: SS2D(16, d_state=2), (5, 3, 4, 16)),
}


@pytest.fixture(params=MIXERS)
def mixer(request) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    build, shape = MIXERS[request.param]
    return build(), torch.randn(*shape)


def test_gradients_of_parameters_for_every_image(mixer):
    """What differential privacy and influence functions need."""
    module, images = mixer
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters, image):
        return func.functional_call(module, parameters, (image[None],)).square().sum()

    got = func.vmap(func.grad(loss), (None, 0))(parameters, images)
    for i, image in enumerate(images):
        module.zero_grad()
        module(image[None]).square().sum().backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(got[name][i], parameter.grad, rtol=1e-3, atol=1e-5)


def test_ensemble(mixer):
    module, images = mixer
    build = type(module)
    members = [build(images.shape[-1], d_state=module.d_state) for _ in range(3)]
    parameters, buffers = func.stack_module_state(members)

    def one(parameters, buffers):
        return func.functional_call(module, (parameters, buffers), (images,))

    got = func.vmap(one)(parameters, buffers)
    torch.testing.assert_close(got, torch.stack([member(images) for member in members]), rtol=1e-4, atol=1e-5)
