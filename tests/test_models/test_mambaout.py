"""What users of mmdet, mmseg and mmpretrain expect of MambaOut."""

import math

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmvim.models import MambaOut
from mmvim.models.backbones.mambaout import GatedCNNBlock
from mmvim.registry import MODELS

SMALL = {'embed_dims': (16, 24, 32, 40), 'depths': (1, 1, 2, 1)}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_names() -> None:
    assert MODELS.get('MambaOut') is MambaOut is ROOT_MODELS.get('MambaOut') is ROOT_MODELS.get('mmvim.MambaOut')


@pytest.mark.parametrize(('alias', 'arch'), [('t', 'tiny'), ('Small', 'small'), ('b', 'base')])
def test_short_names(alias: str, arch: str) -> None:
    assert MambaOut.arch_zoo[alias.lower()] is MambaOut.arch_zoo[arch]
    with torch.device('meta'):
        assert MambaOut(alias).dims == MambaOut.arch_zoo[arch]['embed_dims']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch 'huge': expected one of femto, kobe, t, tiny"),
        ({'arch': {'embed_dims': (8, 16)}}, r"missing: \['depths'\]"),
        ({'arch': {**SMALL, 'mlp_ratio': 4}}, r"unknown: \['mlp_ratio'\]"),
        ({'arch': {**SMALL, 'depths': (1, 0, 1, 1)}}, 'at least one block for each stage'),
        ({'arch': {**SMALL, 'depths': (1, 1)}}, 'one number of channels'),
        ({'arch': {**SMALL, 'embed_dims': (15, 24, 32, 40)}}, r'\(the first of them even\)'),
        ({'arch': {**SMALL, 'expansion': 0.5}}, 'expected an expansion of at least 1 and an odd kernel_size'),
        ({'arch': {**SMALL, 'kernel_size': 4}}, 'expected an expansion of at least 1 and an odd kernel_size'),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MambaOut(**{'arch': SMALL, **options})


@pytest.mark.parametrize('size', [(150, 210), (1, 1), (33, 7), (64, 96)])
def test_any_size(size: tuple[int, int]) -> None:
    mambaout = MambaOut(SMALL).eval()
    with torch.no_grad():
        outs = mambaout(torch.rand(2, 3, *size))
    assert isinstance(outs, tuple)
    grids = [tuple(-(-side // 2**i) for side in size) for i in range(2, 6)]
    assert [tuple(out.shape) for out in outs] == [
        (2, dims, *grid) for dims, grid in zip((16, 24, 32, 40), grids, strict=True)
    ]
    assert all(out.is_contiguous() and out.isfinite().all() for out in outs)
    if size == (150, 210):
        assert grids == [(38, 53), (19, 27), (10, 14), (5, 7)]


def test_block_is_what_the_paper_says() -> None:
    """Against a formula with whole tensors: gate, channels that are kept, channels that are mixed, in this order."""
    block = GatedCNNBlock(6, 0.0, 8 / 3, 7).double()
    x = torch.randn(2, 5, 4, 6, dtype=torch.double)
    projected = block.fc1(block.norm(x))
    g, i, c = projected[..., :16], projected[..., 16:26], projected[..., 26:]
    padded = nn.functional.pad(c, (0, 0, 3, 3, 3, 3))
    mixed = sum(
        padded[:, a : a + 5, b : b + 4] * block.conv.weight[:, 0, a, b] for a in range(7) for b in range(7)
    ) + block.conv.bias  # fmt: skip
    gate = 0.5 * g * (1 + torch.erf(g / math.sqrt(2)))
    torch.testing.assert_close(block(x), x + block.fc2(gate * torch.cat([i, mixed], -1)))


def test_maps_stay_channel_last() -> None:
    """No convolution turns a map round: what goes in, but for slices, and what comes out is (B, H, W, C) in memory."""
    mambaout = MambaOut(SMALL).eval()
    seen = []
    for name, module in mambaout.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out, name=name: seen.append((name, args[0], out)))
    mambaout(torch.rand(2, 3, 64, 96))
    assert len(seen) == 10
    for name, x, out in seen:
        assert out.is_contiguous(memory_format=torch.channels_last), name
        assert x.stride(1) == 1, name
        assert '.blocks.' in name or x.is_contiguous(memory_format=torch.channels_last), name


def test_outputs_are_normed() -> None:
    for out in MambaOut(SMALL).eval()(torch.rand(1, 3, 64, 96)):
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]), atol=1e-5, rtol=0)
    assert {m.eps for m in MambaOut(SMALL).modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_initialisation() -> None:
    for name, parameter in MambaOut(SMALL).named_parameters():
        if parameter.dim() > 1:
            # Truncated so far out that the deviation is the whole one.
            assert 0.014 < parameter.std() < 0.026, name
        elif 'norm' not in name:
            assert parameter.count_nonzero() == 0, name


def test_layer_depth() -> None:
    mambaout = MambaOut(SMALL)
    expected = {'backbone.stem.conv1.weight': 0, 'backbone.stages.0.blocks.0.fc1.weight': 1}
    expected |= {'backbone.stages.1.downsample.conv.weight': 1, 'backbone.stages.2.blocks.1.norm.weight': 4}
    expected |= {'backbone.stages.3.downsample.norm.bias': 4, 'backbone.stages.3.blocks.0.conv.bias': 5}
    expected |= {'backbone.outnorm0.weight': 6, 'decode_head.conv_seg.weight': 6}
    for name, depth in expected.items():
        assert mambaout.get_layer_depth(name, 'backbone.') == (depth, 7), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_stays_close(dtype: torch.dtype) -> None:
    mambaout = MambaOut(SMALL).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = mambaout(x)
    with torch.autocast('cpu', dtype):
        rough = mambaout(x)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32  # the sum over all blocks
        assert (a - b).norm() < 0.03 * a.norm()


def test_half_precision_parameters() -> None:
    mambaout = MambaOut(SMALL).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = mambaout(x)
    for a, b in zip(exact, mambaout.bfloat16()(x.bfloat16()), strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b).norm() < 0.06 * a.norm()


def test_compile_without_a_graph_break() -> None:
    mambaout = MambaOut({'embed_dims': (16, 24), 'depths': (1, 1)}, out_indices=(0, 1)).eval()
    compiled = torch.compile(mambaout, fullgraph=True, backend='eager', dynamic=True)
    for size in ((64, 64), (78, 106)):
        x = torch.rand(1, 3, *size)
        torch.testing.assert_close(compiled(x), mambaout(x))


def test_export_and_trace() -> None:
    mambaout = MambaOut(SMALL).eval()
    x = torch.rand(1, 3, 64, 80)
    torch.testing.assert_close(torch.export.export(mambaout, (x,)).module()(x), mambaout(x))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(mambaout, x)(x + 1), mambaout(x + 1))


def test_learns() -> None:
    """A few steps lower a loss: gradients point the right way through all stages."""
    mambaout = MambaOut(SMALL).train()
    optimizer = torch.optim.AdamW(mambaout.parameters(), 3e-3)
    x, target = torch.rand(2, 3, 32, 32), torch.randn(2, 40, 1, 1)
    losses = []
    for _ in range(15):
        loss = (mambaout(x)[3] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1]) and losses[-1] < 0.7 * losses[0]
