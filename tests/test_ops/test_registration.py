"""The operators as PyTorch meets them: fake tensors, autograd, compile, export, trace, FLOP counters."""

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmvim.models.backbones.vim_mixer import BidirectionalMixer
from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.library import SCHEMAS
from mmvim.ops.testing import BACKENDS, scan_case

SUFFIXES = {'torch': '_torch', 'cpu': ''}


def recorded_calls(function) -> list[tuple]:
    """(operator, arguments) of every mmvim operator that ``function`` and its backward pass call."""
    calls = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if op.namespace == 'mmvim':
                calls.append((op, args))
            return op(*args, **(kwargs or {}))

    with Recorder():
        function().sum().backward()
    return calls


def scans(walk, **options):
    def call(backend):
        case = scan_case(walk, dtype=torch.float32, channels=4, **options)
        case['u'].requires_grad_()
        return scan(**case, backend=backend)

    return call


def convolutions(walk, **options):
    def call(backend):
        x = torch.randn(2, walk.num_tokens, 4).requires_grad_()
        weights = torch.randn(walk.num_walks, 4, 3), torch.randn(walk.num_walks, 4)
        return walk_conv(x, *weights, walks=walk, backend=backend, **options)

    return call


CALLS = {
    'scan, kinds': scans(walks.cross(5, 7), z=True, rank=2),
    'scan, table': scans(walks.strided(5, 7), merge='none', D=False, delta_bias=False, u_order='step'),
    'conv, kinds': convolutions(walks.bidirectional(9)),
    'conv, table': convolutions(walks.local(3, 3, ('w2', 'h')), order='step', activation=None),
}


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', CALLS)
def test_opcheck(name, backend):
    calls = recorded_calls(lambda: CALLS[name](backend))
    suffix = SUFFIXES[backend]
    kind = 'scan' if 'scan' in name else 'walk_conv'
    assert [op._schema.name for op, _ in calls] == [f'mmvim::{kind}{suffix}', f'mmvim::{kind}_backward{suffix}']
    for op, args in calls:
        args = [x.detach() if isinstance(x, torch.Tensor) else x for x in args]
        torch.library.opcheck(op, args)  # as in inference
        if 'backward' not in op._schema.name:
            for x in args[:9]:
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    x.requires_grad_()
            torch.library.opcheck(op, args)


def test_every_operator_is_defined_twice():
    for name, suffix in ((name, suffix) for name in SCHEMAS for suffix in ('', '_torch')):
        assert hasattr(torch.ops.mmvim, name + suffix)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', CALLS)
def test_no_second_derivative(name, backend):
    y = CALLS[name](backend)
    leaf = next(node.variable for node in ancestors(y.grad_fn) if hasattr(node, 'variable'))
    (gradient,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match='can be differentiated once only'):
        gradient.sum().backward()


def ancestors(node):
    yield node
    for parent, _ in node.next_functions:
        if parent is not None:
            yield from ancestors(parent)


def mixer(**kwargs) -> nn.Module:
    torch.manual_seed(0)
    return BidirectionalMixer(8, d_state=4, **kwargs)


def outputs_and_gradients(module, x) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', request.param)
    torch._dynamo.reset()
    return request.param


def test_compile_once_for_all_sizes(backend):
    plain = mixer()
    counter = torch._dynamo.testing.CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(mixer(), fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for batch, length in ((2, 70), (3, 99), (4, 130)):
        x = torch.randn(batch, length, 8)
        torch.testing.assert_close(outputs_and_gradients(compiled, x), outputs_and_gradients(plain, x))
        graphs.append(counter.frame_count)
    assert graphs[0] == graphs[2]


class Windows(nn.Module):
    """Walks by table, built outside the graph."""

    def __init__(self):
        super().__init__()
        self.walks = walks.local(4, 6, ('w2', 'v_flip'))
        self.weight = nn.Parameter(torch.randn(2, 6, 3))
        self.A = nn.Parameter(-torch.rand(1, 6, 2))

    def forward(self, x):
        u = walk_conv(x, self.weight, walks=self.walks)
        return scan(u, x, self.A, x[..., :2], x[..., 2:4], walks=self.walks)


def test_compile_table(backend):
    torch.manual_seed(0)
    module, x = Windows(), torch.randn(1, 24, 6)
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(outputs_and_gradients(compiled, x), outputs_and_gradients(module, x))


def test_compile_with_inductor(backend):
    module, x = Windows(), torch.randn(1, 24, 6)
    with torch.no_grad():  # the operators alone: nothing for inductor's own compiler to do
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x))


def test_compile_under_autocast(backend):
    compiled, x = torch.compile(mixer(), fullgraph=True, backend='aot_eager'), torch.randn(2, 20, 8)
    with torch.autocast('cpu', torch.bfloat16):
        got, want = outputs_and_gradients(compiled, x), outputs_and_gradients(mixer(), x)
    torch.testing.assert_close(got, want, rtol=0.05, atol=0.05)
    assert got[0].dtype == torch.bfloat16


def test_export_with_dynamic_length(backend):
    module, x = mixer().eval(), torch.randn(2, 40, 8)
    shapes = {'x': {0: torch.export.Dim('batch'), 1: torch.export.Dim('length', min=2)}}
    exported = torch.export.export(module, (torch.randn(3, 12, 8),), dynamic_shapes=shapes)
    exported = exported.module()
    torch.testing.assert_close(exported(x), module(x))
    with pytest.raises(RuntimeError, match='save=False, as torch.export does'):
        exported(x).sum().backward()
    names = {str(node.target) for node in exported.graph.nodes}
    assert {f'mmvim.scan{SUFFIXES[backend]}.default', f'mmvim.walk_conv{SUFFIXES[backend]}.default'} <= names


@pytest.mark.parametrize('with_gradient', [False, True])
def test_jit_trace(backend, with_gradient):
    """torch holds the graph against one that it traces without gradient."""
    module, x = mixer().eval(), torch.randn(2, 40, 8)
    with torch.set_grad_enabled(with_gradient):
        traced = torch.jit.trace(module, torch.randn(2, 40, 8))
    torch.testing.assert_close(outputs_and_gradients(traced, x), outputs_and_gradients(module, x))


def test_fake_tensors_have_the_real_shapes(backend):
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, 40, 8, requires_grad=True)
        module = mixer()
        y = module(x)
        y.sum().backward()
    assert y.shape == x.grad.shape == (2, 40, 8)


def test_data_parallel(backend, tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped, x = nn.parallel.DistributedDataParallel(mixer()), torch.randn(2, 40, 8)
        torch.testing.assert_close(outputs_and_gradients(wrapped, x), outputs_and_gradients(mixer(), x))
    finally:
        torch.distributed.destroy_process_group()


def flops(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize('walk', [walks.cross(4, 6), walks.strided(4, 6), walks.local(4, 6, ('w7', 'h'))])
def test_flops(walk, backend):
    batch, channels, d_state, rank, width = 2, 5, 3, 4, 3
    steps = batch * walk.num_walks * walk.num_steps * channels
    case = scan_case(walk, batch=batch, channels=channels, d_state=d_state)
    forward = 2 * steps * (9 * d_state + 1)  # + 1: D; twice, as the counter counts a multiply-add
    assert flops(lambda: scan(**case)) == forward
    case['u'].requires_grad_()
    assert flops(lambda: scan(**case).sum().backward()) == 3 * forward
    assert (
        flops(lambda: scan(**scan_case(walk, channels=channels, d_state=d_state, D=False))) == 2 * steps * 9 * d_state
    )
    low_rank = scan_case(walk, channels=channels, d_state=d_state, rank=rank)
    assert flops(lambda: scan(**low_rank)) == forward + 2 * steps * rank

    x = torch.randn(batch, walk.num_tokens, channels, requires_grad=True)
    weight = torch.randn(walk.num_walks, channels, width)
    assert flops(lambda: walk_conv(x, weight, walks=walk)) == 2 * steps * width
    assert flops(lambda: walk_conv(x, weight, walks=walk).sum().backward()) == 6 * steps * width
