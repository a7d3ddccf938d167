"""What users of mmdet, mmseg and mmpretrain expect of PlainMamba and its adapter."""

import sys

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor

from mmvim.models import PlainMamba, PlainMambaAdapter
from mmvim.models.backbones.plainmamba_mixer import ContinuousMixer, arrivals
from mmvim.models.layers import deformable
from mmvim.models.layers.deformable import DeformableAttention, centres, sample
from mmvim.ops import walks
from mmvim.registry import MODELS

SMALL = {'embed_dims': 24, 'depth': 4, 'd_state': 4, 'd_conv': 3, 'conv_blocks': (0,)}
QUIRKS = {'raster_parameters': True, 'double_dt_bias': True}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('cls', [PlainMamba, PlainMambaAdapter])
def test_names(cls: type) -> None:
    name = cls.__name__
    assert MODELS.get(name) is cls is ROOT_MODELS.get(name) is ROOT_MODELS.get(f'mmvim.{name}')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'l4'}, "arch 'l4': expected one of l1, l2, l3, or a dict"),
        ({'arch': {'embed_dims': 8}}, r"missing: \['depth'\]"),
        ({'arch': {**SMALL, 'mlp_ratio': 4}}, r"unknown: \['mlp_ratio'\]"),
        ({'walks': 'spiral'}, "walks='spiral': expected one of"),
        ({'walks': 'cross', 'raster_parameters': True}, "raster_parameters=True is for .*got 'cross'"),
    ],
)
@pytest.mark.parametrize('cls', [PlainMamba, PlainMambaAdapter])
def test_bad_arguments(cls: type, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**{'arch': SMALL, **options})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': {**SMALL, 'num_heads': 5}}, '5 heads do not divide 24 channels'),
        ({'arch': {**SMALL, 'depth': 3}}, 'depth 3: expected at least 4 blocks'),
        ({'out_indices': 4}, 'the 4 maps are numbered 0 to 3'),
    ],
)
def test_bad_arguments_of_the_adapter(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlainMambaAdapter(**{'arch': SMALL, **options})


# Steps over 2 x 3 tokens and how a walk comes to each: 0 first, 1 right, 2 left, 3 up, 4 down.
ORDERS = [[0, 1, 2, 5, 4, 3], [3, 4, 5, 2, 1, 0], [0, 3, 4, 1, 2, 5], [5, 2, 1, 4, 3, 0]]
CODES = [[0, 1, 1, 4, 2, 2], [0, 1, 1, 3, 2, 2], [0, 4, 1, 3, 1, 4], [0, 3, 2, 4, 2, 3]]


def test_directions_of_steps() -> None:
    walk, cpu = walks.snake(2, 3), torch.device('cpu')
    assert walk.tokens().tolist() == ORDERS
    assert arrivals(walk, True, cpu).tolist() == CODES
    by_token = [[codes[order.index(t)] for t in range(6)] for order, codes in zip(ORDERS, CODES, strict=True)]
    assert arrivals(walk, False, cpu).tolist() == by_token


def test_steps_to_no_neighbour_are_no_directions() -> None:
    cpu = torch.device('cpu')
    assert arrivals(walks.cross(2, 2), True, cpu)[:2].tolist() == [[0, 1, 0, 1], [0, 4, 0, 4]]
    assert arrivals(walks.strided(3, 3), False, cpu).tolist() == [[0] * 9] * 4
    assert arrivals(walks.from_table([[0, -1, 1]], 1, 2), True, cpu).tolist() == [[0, 0, 0]]
    assert arrivals(walks.snake(3, 1), True, cpu)[0].tolist() == [0, 4, 4]


@pytest.mark.parametrize('raster', [False, True])
@pytest.mark.parametrize('double', [False, True])
def test_mixer_is_what_the_paper_says(raster: bool, double: bool) -> None:
    """Step by step along orders that are written down, with each quirk of the published code and without."""
    mixer = ContinuousMixer(8, d_state=3, d_conv=3, raster_parameters=raster, double_dt_bias=double).double()
    mixer.direction_Bs.data.normal_()
    x = torch.randn(2, 6, 8, dtype=torch.double)
    a, z = mixer.in_proj(x).chunk(2, -1)
    u = F.silu(mixer.conv2d(a.transpose(1, 2).unflatten(2, (2, 3)))).flatten(2).transpose(1, 2)
    delta, B, C = (u @ mixer.x_proj_weight[0].t()).split([mixer.dt_rank, 3, 3], -1)
    delta = F.softplus(delta @ mixer.dt_projs_weight[0].t() + (2 if double else 1) * mixer.dt_projs_bias[0])
    y = torch.zeros_like(u)
    for order, codes in zip(ORDERS, CODES, strict=True):
        h = 0
        for s, (t, code) in enumerate(zip(order, codes, strict=True)):
            p = s if raster else t
            h = h * torch.exp(-delta[:, p, :, None] * mixer.A_logs[0].exp())
            h = h + (delta[:, p] * u[:, t])[..., None] * (B[:, p] + mixer.direction_Bs[code])[:, None]
            y[:, t] += (h * C[:, p, None]).sum(-1) + mixer.Ds[0] * u[:, t]
    torch.testing.assert_close(mixer(x, (2, 3)), mixer.out_proj(y * F.silu(z)))


@pytest.mark.parametrize('size', [(224, 310), (1, 1), (33, 17)])
def test_any_size(size: tuple[int, int]) -> None:
    outs = PlainMamba(SMALL, out_indices=(0, 3), **QUIRKS).eval()(torch.rand(1, 3, *size))
    assert {tuple(out.shape[2:]) for out in outs} == {tuple(-(-side // 16) for side in size)}


@pytest.mark.parametrize('walk', ['cross', 'strided', ['h', 'w2']])
def test_other_walks(walk: str | list[str]) -> None:
    outs = PlainMamba(SMALL, walks=walk)(torch.rand(1, 3, 48, 64))
    assert outs[0].isfinite().all()


def test_outputs_are_normed() -> None:
    x = torch.rand(1, 3, 64, 48)
    for out in PlainMamba(SMALL, out_indices=(1, 3)).eval()(x):
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]), atol=1e-5, rtol=0)
    bare = PlainMamba(SMALL, out_indices=(1, 3), out_norm=False)
    assert not any('norm_f' in name or 'outnorm' in name for name in bare.state_dict())
    assert bare(x)[0].mean(1).abs().max() > 0.01


def test_no_decay_of_the_recurrence() -> None:
    free = {
        n.rpartition('.')[2] for n, p in PlainMambaAdapter(SMALL).named_parameters() if hasattr(p, '_no_weight_decay')
    }
    assert free == {'pos_embed', 'level_embed', 'A_logs', 'Ds', 'direction_Bs', 'dt_projs_bias'}


def test_layer_depth() -> None:
    backbone = PlainMambaAdapter(SMALL)
    for name, depth in {
        'patch_embed.stem.0.weight': 0,
        'pos_embed': 0,
        'layers.3.mamba.Ds': 4,
        'spm.fc1.bias': 5,
    }.items():
        assert backbone.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, 6), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('cls', [PlainMamba, PlainMambaAdapter])
def test_autocast_stays_close(cls: type, dtype: torch.dtype) -> None:
    backbone, x = cls(SMALL).eval(), torch.rand(1, 3, 64, 64)
    exact = backbone(x)
    with torch.autocast('cpu', dtype):
        rough = backbone(x)
    assert all((a - b).norm() < 0.05 * a.norm() for a, b in zip(exact, rough, strict=True))


@pytest.mark.parametrize('cls', [PlainMamba, PlainMambaAdapter])
def test_half_precision_parameters(cls: type) -> None:
    backbone, x = cls(SMALL).eval(), torch.rand(1, 3, 64, 64)
    exact = backbone(x)
    for a, b in zip(exact, backbone.bfloat16()(x.bfloat16()), strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b).norm() < 0.1 * a.norm()


@pytest.mark.parametrize('cls', [PlainMamba, PlainMambaAdapter])
def test_export_and_trace(cls: type) -> None:
    backbone, x = cls(SMALL).eval(), torch.rand(1, 3, 64, 80)
    torch.testing.assert_close(torch.export.export(backbone, (x,)).module()(x), backbone(x))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(backbone, x)(x + 1), backbone(x + 1))


@pytest.mark.parametrize('size', [(64, 96), (50, 70), (1, 1), (33, 17)])
def test_adapter_at_any_size(size: tuple[int, int]) -> None:
    backbone = PlainMambaAdapter(SMALL).eval()
    outs = backbone(torch.rand(2, 3, *size))
    grids = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert [tuple(out.shape) for out in outs] == [(2, 24, *grid) for grid in grids]
    assert all(out.is_contiguous() and out.isfinite().all() for out in outs)


def test_outputs_of_the_adapter_are_chosen() -> None:
    every = PlainMambaAdapter(SMALL).eval()
    some = PlainMambaAdapter(SMALL, out_indices=(1, -1)).eval()
    some.load_state_dict(every.state_dict())
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(some(x), every(x)[1::2], rtol=0, atol=0)


def test_every_parameter_of_the_adapter_learns() -> None:
    """Once it is a step away from its start, where gammas and the attention's weights are 0."""
    backbone = PlainMambaAdapter(SMALL).train()
    for parameter in backbone.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    outs = backbone(torch.rand(2, 3, 64, 96))
    sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outs).backward()
    silent = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_recomputing_the_adapter_changes_nothing() -> None:
    plain, saving = (PlainMambaAdapter(SMALL, with_cp=flag).train() for flag in (False, True))
    saving.load_state_dict(plain.state_dict())
    x, results = torch.rand(2, 3, 64, 64), []
    for backbone in (plain, saving):
        outs = backbone(x)
        sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outs).backward()
        results.append([*outs, *(p.grad for p in backbone.parameters()), *backbone.buffers()])
    assert all(map(torch.equal, *results))


def test_freezing_leaves_the_adapter_alone() -> None:
    backbone = PlainMambaAdapter(SMALL, frozen_stages=4)
    frozen = {name.partition('.')[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'patch_embed', 'pos_embed', 'layers'}


def attention_inputs() -> tuple[Tensor, list[tuple[int, int]], Tensor, Tensor]:
    grids = [(4, 6), (3, 2), (1, 1)]
    values = torch.randn(2, 31, 3, 8)
    locations = torch.rand(2, 7, 3, 3, 4, 2) * 1.4 - 0.2  # some of them outside
    return values, grids, locations, torch.rand(2, 7, 3, 12).softmax(-1).unflatten(-1, (3, 4))


def test_deformable_attention_is_that_of_mmcv() -> None:
    values, grids, locations, weights = attention_inputs()
    expected = multi_scale_deformable_attn_pytorch(values, torch.tensor(grids), locations, weights)
    torch.testing.assert_close(sample(values, grids, locations, weights), expected)


def test_deformable_attention_without_mmcv(monkeypatch) -> None:
    """Where its operators, or mmcv itself, are missing, there is nothing to be called."""
    for missing in ('mmcv', 'mmcv._ext'):
        deformable.compiled_op.cache_clear()
        monkeypatch.setattr(deformable, 'find_spec', lambda name, missing=missing: None if name == missing else name)
        monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
        assert deformable.compiled_op() is None
        monkeypatch.undo()
    deformable.compiled_op.cache_clear()


def test_how_the_operator_of_mmcv_is_called(monkeypatch) -> None:
    """It has a kernel for GPUs alone; its arguments, held against the form in PyTorch."""
    from mmcv.ops import multi_scale_deform_attn as theirs

    class Function:
        @staticmethod
        def apply(values, shapes, starts, locations, weights, step):
            assert starts.tolist() == [0, 24, 30] and len(values) % step == 0
            return theirs.multi_scale_deformable_attn_pytorch(values, shapes, locations, weights)

    monkeypatch.setattr(theirs, 'MultiScaleDeformableAttnFunction', Function)
    monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version', lambda: '13.0')
    deformable.compiled_op.cache_clear()
    arguments = attention_inputs()
    torch.testing.assert_close(deformable.compiled_op()(*arguments), sample(*arguments))
    deformable.compiled_op.cache_clear()


def test_queries_look_around_themselves_at_first() -> None:
    attention = DeformableAttention(8, 4, 1, num_points=1)
    places = centres([(3, 3)], torch.rand(1))
    assert places[0, 5].tolist() == pytest.approx([5 / 6, 1 / 2])
    seen = []
    attention.value_proj.register_forward_hook(lambda *_: seen.append(1))
    out = attention(torch.zeros(1, 9, 8), places, torch.ones(1, 9, 8), [(3, 3)])
    assert out.shape == (1, 9, 8) and seen
    offsets = attention.sampling_offsets.bias.view(4, 2)
    torch.testing.assert_close(offsets, torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), atol=1e-6, rtol=0)
