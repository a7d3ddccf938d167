"""What users of mmdet, mmseg and mmpretrain expect of EfficientVMamba."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from official_efficientvmamba import CLASSIFIERS
from torch import Tensor

from mmvim.models import EfficientVMamba
from mmvim.models.backbones import vmamba_mixer
from mmvim.models.backbones.efficientvmamba import EVSSBlock
from mmvim.models.backbones.vmamba_mixer import SS2D
from mmvim.ops import scan
from mmvim.registry import MODELS

SMALL = {'embed_dims': (16, 24, 32, 40), 'depths': (1, 1, 2, 1), 'd_state': 4}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_names() -> None:
    name = 'EfficientVMamba'
    assert MODELS.get(name) is EfficientVMamba is ROOT_MODELS.get(name) is ROOT_MODELS.get(f'mmvim.{name}')


@pytest.mark.parametrize(('alias', 'arch'), [('t', 'tiny'), ('Small', 'small'), ('b', 'base')])
def test_published_sizes(alias: str, arch: str) -> None:
    """Of the classifiers, which have the last norm and a linear layer behind it."""
    assert EfficientVMamba.arch_zoo[alias.lower()] is EfficientVMamba.arch_zoo[arch]
    with torch.device('meta'):
        backbone = EfficientVMamba(alias, out_indices=3)
    assert sum(p.numel() for p in backbone.parameters()) + 1000 * (backbone.dims[3] + 1) == CLASSIFIERS[arch][1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch 'huge': expected one of t, tiny, s, small"),
        ({'arch': {'embed_dims': (8, 16)}}, r"missing: \['depths'\]"),
        ({'arch': {**SMALL, 'mlp_ratio': 4}}, r"unknown: \['mlp_ratio'\]"),
        ({'arch': {**SMALL, 'depths': (1, 0, 1, 1)}}, 'at least one block for each stage'),
        ({'arch': {**SMALL, 'depths': (1, 1)}}, 'one number of channels'),
        ({'arch': {**SMALL, 'scan_stages': 5}}, 'scan_stages=5: expected 0 to 4'),
        ({'walks': 'spiral'}, "walks='spiral': expected one of"),
        ({'ssm_act': 'tanh'}, "activation 'tanh'"),
        ({'ssm_init': 'ones'}, "initialisation 'ones'"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EfficientVMamba(**{'arch': SMALL, **options})


@pytest.mark.parametrize('size', [(150, 210), (4, 4), (33, 7), (64, 96)])
def test_any_size(size: tuple[int, int]) -> None:
    backbone = EfficientVMamba(SMALL).eval()
    with torch.no_grad():
        outs = backbone(torch.rand(2, 3, *size))
    grids = [tuple(-(-(side // 4) // 2**i) for side in size) for i in range(4)]
    assert [tuple(out.shape) for out in outs] == [
        (2, dims, *grid) for dims, grid in zip((16, 24, 32, 40), grids, strict=True)
    ]


def sampled(mixer: SS2D, x: Tensor) -> Tensor:
    """The mixer written down: four maps of every second row and column, one scan each, by rows or by columns."""
    height, width = x.shape[1:3]
    x, z = mixer.in_proj(x).chunk(2, -1)
    u = F.silu(mixer.conv2d(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    u = F.pad(u, (0, 0, 0, width % 2, 0, height % 2))
    y = torch.zeros_like(u)
    for k, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        part = u[:, row::2, column::2]
        part = part.transpose(1, 2) if row else part
        steps = part.flatten(1, 2)
        projected = steps @ mixer.x_proj_weight[k].t()
        delta, B, C = projected.split([mixer.dt_rank, mixer.d_state, mixer.d_state], -1)
        delta = F.softplus(delta @ mixer.dt_projs_weight[k].t() + mixer.dt_projs_bias[k])
        h, outs = 0, []
        for s in range(steps.shape[1]):
            h = h * torch.exp(-delta[:, s, :, None] * mixer.A_logs[k].exp())
            h = h + (delta[:, s] * steps[:, s])[..., None] * B[:, s, None]
            outs.append((h * C[:, s, None]).sum(-1) + mixer.Ds[k] * steps[:, s])
        part = torch.stack(outs, 1).unflatten(1, part.shape[1:3])
        y[:, row::2, column::2] = part.transpose(1, 2) if row else part
    return mixer.out_proj(mixer.out_norm(y[:, :height, :width]) * F.silu(z))


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 3), (2, 1)])
def test_mixer_is_what_the_paper_says(size: tuple[int, int]) -> None:
    mixer = SS2D(6, ratio=2.0, d_state=3, gate=True, conv_bias=True, init='random', walks='strided').double()
    x = torch.randn(2, *size, 6, dtype=torch.double, requires_grad=True)
    results = []
    for out in (mixer(x), sampled(mixer, x)):
        mixer.zero_grad()
        x.grad = None
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out, x.grad, *(p.grad for p in mixer.parameters())])
    torch.testing.assert_close(*results)


def test_only_steps_are_projected(monkeypatch) -> None:
    """A step size, B and C for each token and walk would be four times as many as walks have steps."""
    seen = []

    def spy(u: Tensor, delta: Tensor, *args: Tensor, **options) -> Tensor:
        seen.append((u.shape, delta.shape, options['param_order']))
        return scan(u, delta, *args, **options)

    monkeypatch.setattr(vmamba_mixer, 'scan', spy)
    SS2D(16, walks='strided')(torch.rand(1, 8, 6, 16))
    SS2D(16)(torch.rand(1, 8, 6, 16))
    assert seen == [((1, 4, 12, 16), (1, 4, 12, 1), 'step'), ((1, 48, 16), (1, 4, 48, 1), 'token')]


def test_one_attention_weighs_both_branches() -> None:
    block = EVSSBlock(16, 0.0, {'gate': True, 'walks': 'strided'}).eval()
    x = torch.randn(2, 5, 4, 16)
    normed = block.norm(x)
    scanned, local = block.op(normed), block.conv_branch(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def weighed(y: Tensor) -> Tensor:
        mean = block.se.norm(y).mean((1, 2))
        return y * block.se.channel_select(F.gelu(block.se.global_reduce(mean))).sigmoid()[:, None, None]

    torch.testing.assert_close(block(x), x + weighed(scanned) + weighed(local))


def test_four_independent_matrices_in_a_block() -> None:
    mixer = EfficientVMamba(SMALL).layers[0].blocks[0].op
    assert mixer.A_logs.shape == (4, 32, 4)
    mixer.A_logs.data[0].zero_()
    assert mixer.A_logs[1].any()


def test_layer_depth() -> None:
    backbone = EfficientVMamba(SMALL)
    expected = {'backbone.patch_embed.0.conv.weight': 0, 'backbone.layers.0.blocks.0.op.A_logs': 1}
    expected |= {'backbone.layers.1.downsample.norm.weight': 2, 'backbone.layers.2.blocks.1.conv_dw.0.weight': 4}
    expected |= {'backbone.layers.3.blocks.0.se.conv_reduce.bias': 5, 'backbone.outnorm0.weight': 6}
    for name, depth in expected.items():
        assert backbone.get_layer_depth(name, 'backbone.') == (depth, 7), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_stays_close(dtype: torch.dtype) -> None:
    backbone, x = EfficientVMamba(SMALL).eval(), torch.rand(1, 3, 64, 64)
    exact = backbone(x)
    with torch.autocast('cpu', dtype):
        rough = backbone(x)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32  # the sum over all blocks
        assert (a - b).norm() < 0.03 * a.norm()


def test_half_precision_parameters() -> None:
    backbone, x = EfficientVMamba(SMALL).eval(), torch.rand(1, 3, 64, 64)
    exact = backbone(x)
    for a, b in zip(exact, backbone.bfloat16()(x.bfloat16()), strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b).norm() < 0.06 * a.norm()


def test_export_and_trace() -> None:
    backbone, x = EfficientVMamba(SMALL).eval(), torch.rand(1, 3, 64, 80)
    torch.testing.assert_close(torch.export.export(backbone, (x,)).module()(x), backbone(x))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(backbone, x)(x + 1), backbone(x + 1))


def test_learns() -> None:
    backbone = EfficientVMamba(SMALL).train()
    optimizer = torch.optim.AdamW(backbone.parameters(), 3e-3)
    x, target = torch.rand(2, 3, 64, 64), torch.randn(2, 40, 1, 1)
    losses = []
    for _ in range(15):
        loss = (backbone(x)[3] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
