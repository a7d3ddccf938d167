"""What other tools do with a backbone as a torch module: hooks, adapters, quantisation, averages, copies, processes."""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmvim.models import DeiT, EfficientVMamba, MambaOut, MambaVision, PlainMamba, Vim, VMamba
from mmvim.models.backbones.base import Backbone

SCANNED = {'embed_dims': (16, 24), 'depths': (1, 2), 'scan_stages': 1, 'd_state': 4}
BUILD: dict[str, Callable[[], Backbone]] = {
    'vim': partial(Vim, {'embed_dims': 32, 'depth': 2, 'patch_size': 16, 'patch_stride': 16, 'd_state': 4}),
    'deit': partial(DeiT, {'embed_dims': 32, 'depth': 2, 'heads': 2}),
    'vmamba': partial(VMamba, {'embed_dims': 16, 'depths': (1, 2)}, out_indices=(0, 1)),
    'mambaout': partial(MambaOut, {'embed_dims': (16, 24), 'depths': (1, 2)}, out_indices=(0, 1)),
    'mambavision': partial(MambaVision, {'embed_dims': 16, 'depths': (1, 1, 3), 'heads': (2,)}, out_indices=2),
    'efficientvmamba': partial(EfficientVMamba, SCANNED, out_indices=(0, 1)),
    'plainmamba': partial(PlainMamba, {'embed_dims': 32, 'depth': 2, 'conv_blocks': (0,), 'd_state': 4, 'd_conv': 3}),
}
EVERY = pytest.mark.parametrize('build', BUILD.values(), ids=BUILD)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 64, 48)


@EVERY
def test_every_layer_is_called(build):
    """Forward hooks see each of them once: what adapters, profilers and quantisation take hold of.

    But for the attention over channels that two branches of a block share.
    """
    backbone, calls = build(), {}
    layers = {name: m for name, m in backbone.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.LayerNorm))}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    backbone(images())
    twice = {name for name, module in backbone.named_modules() if type(module).__name__ == 'ChannelAttention'}
    assert calls == {name: 1 + (name.rpartition('.')[0] in twice) for name in layers}


class Around(nn.Module):
    """Another module in the place of a layer, without its attributes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@EVERY
def test_wrapped_convolutions(build):
    """PEFT's adapter of a convolution has no ``in_channels``."""
    backbone, x = build(), images()
    want = backbone(x)
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, Around(child))
    torch.testing.assert_close(backbone(x), want)


class LowRank(nn.Module):
    """LoRA (https://arxiv.org/abs/2106.09685): a frozen linear layer and a trained product of rank 2 beside it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


@EVERY
def test_adapters_in_the_place_of_linear_layers(build):
    backbone, x = build(), images()
    want = backbone(x)
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, LowRank(child))
    torch.testing.assert_close(backbone(x), want)  # `up` is 0 at first
    sum(y.square().sum() for y in backbone(x)).backward()
    adapters = [module for module in backbone.modules() if isinstance(module, LowRank)]
    assert adapters and all(adapter.up.weight.grad.any() for adapter in adapters)


@EVERY
def test_dynamic_int8(build):
    backbone, x = build().eval(), images()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch.ao is on its way to a package of its own
        quantized = torch.ao.quantization.quantize_dynamic(backbone, {nn.Linear}, dtype=torch.qint8)
        got, want = quantized(x), backbone(x)
    assert not any(type(module) is nn.Linear for module in quantized.modules())
    for a, b in zip(got, want, strict=True):
        assert 0 < (a - b).norm() < 0.05 * b.norm()


@EVERY
@pytest.mark.parametrize('average', [None, get_ema_multi_avg_fn(0.5)], ids=['swa', 'ema'])
def test_averaged_weights(build, average):
    """The mean of two models with weights w and 1.2 w is a model with weights 1.1 w."""
    backbone, x = build().eval(), images()
    averaged = AveragedModel(backbone, multi_avg_fn=average)
    weights = {name: w.detach().clone() for name, w in backbone.named_parameters()}  # statistics are not averaged
    averaged.update_parameters(backbone)
    backbone.load_state_dict({name: 1.2 * w for name, w in weights.items()}, strict=False)
    averaged.update_parameters(backbone)
    backbone.load_state_dict({name: 1.1 * w for name, w in weights.items()}, strict=False)
    torch.testing.assert_close(averaged.eval()(x), backbone(x), rtol=1e-3, atol=1e-4)


@EVERY
def test_weight_norm(build):
    backbone, x = build(), images()
    want = backbone(x)
    layers = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        nn.utils.parametrizations.weight_norm(layer)
    torch.testing.assert_close(backbone(x), want)
    sum(y.square().sum() for y in backbone(x)).backward()
    assert all(layer.parametrizations.weight.original0.grad.any() for layer in layers)


@EVERY
def test_data_parallel_without_a_gpu(build):
    backbone, x = build(), images()
    torch.testing.assert_close(nn.DataParallel(backbone)(x), backbone(x))


@EVERY
def test_a_copy_stands_alone(build):
    backbone, x = build(), images()
    twin = copy.deepcopy(backbone)
    want = twin(x)
    for parameter in backbone.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(twin(x), want)


def _answer(backbone: Backbone, x: Tensor, queue) -> None:
    with torch.no_grad():
        queue.put([y.numpy() for y in backbone(x)])


@pytest.mark.parametrize('name', ['vim', 'vmamba'])
def test_in_a_spawned_process(name):
    backbone, x = BUILD[name](), images(1)
    context = torch.multiprocessing.get_context('spawn')
    queue = context.SimpleQueue()
    process = context.Process(target=_answer, args=(backbone, x, queue))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    torch.testing.assert_close([torch.from_numpy(y) for y in queue.get()], [y.detach() for y in backbone(x)])


@EVERY
def test_trace_in_either_mode(build):
    backbone, x = build().eval(), images()
    want = backbone(x)
    torch.testing.assert_close(torch.jit.trace(backbone, images())(x), want)
    with torch.no_grad():
        traced = torch.jit.trace(backbone, images())
    torch.testing.assert_close(traced(x), want)


@EVERY
@pytest.mark.parametrize('training', [False, True])
def test_an_empty_batch(build, training):
    """As torch's own layers give it: empty maps of the right shape, and gradients that are 0."""
    backbone = build().train(training)
    for parameter in backbone.parameters():
        parameter.grad = None
    x = images(0).requires_grad_()
    maps = backbone(x)
    assert [y.shape for y in maps] == [(0, *y.shape[1:]) for y in backbone(images(1))]
    sum(y.sum() for y in maps).backward()
    assert x.grad.shape == x.shape
    gradients = [p.grad for p in backbone.parameters() if p.grad is not None]
    assert gradients and not any(gradient.any() for gradient in gradients)
    with torch.no_grad():
        assert [y.shape for y in backbone(x)] == [y.shape for y in maps]
