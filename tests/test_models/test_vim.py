"""What users of mmdet, mmseg and mmpretrain expect of a backbone."""

import gc

import pytest
import torch

from mmvim.models import Vim
from mmvim.models.backbones.vim_mixer import BidirectionalMixer

SMALL = {'embed_dims': 32, 'depth': 4, 'patch_size': 16, 'patch_stride': 16, 'd_state': 4}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ('arch', 'dims', 'stride', 'parameters'),
    [
        # Published classifiers less their heads: 7,148,008, 25,796,584, 97,598,440 parameters and so on.
        ('tiny', 192, 16, 7_148_008 - 193 * 1000),
        ('small', 384, 16, 25_796_584 - 385 * 1000),
        ('base', 768, 16, 97_598_440 - 769 * 1000),
        ('tiny_plus', 192, 8, 7_250_344 - 193 * 1000),
        ('s+', 384, 8, 26_001_256 - 385 * 1000),
    ],
)
def test_published_variants(arch, dims, stride, parameters):
    with torch.device('meta'):
        vim = Vim(arch, out_type='cls_token')
    assert vim.embed_dims == dims
    assert vim.patch_embed.stride == stride
    assert sum(p.numel() for p in vim.parameters()) == parameters


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch 'huge': expected one of t, tiny"),
        ({'arch': {'embed_dims': 32}}, r"missing: \['depth', 'patch_size', 'patch_stride'\]"),
        ({'arch': {**SMALL, 'num_heads': 3}}, r"unknown: \['num_heads'\]"),
        ({'out_type': 'avg_featmap'}, "out_type='avg_featmap': expected one of"),
        ({'feature': 'mixer'}, "feature='mixer': expected one of"),
        ({'out_type': 'cls_token', 'with_cls_token': False}, 'needs with_cls_token=True'),
        ({'rope': True, 'with_cls_token': True}, 'no position for a class token'),
        ({'rope_residual': True}, 'needs rope=True'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Vim(**{'arch': SMALL, **options})


@pytest.mark.parametrize(
    ('stride', 'size', 'grid'),
    [
        (16, (16, 16), (1, 1)),
        (16, (31, 31), (2, 2)),
        (16, (112, 137), (7, 9)),
        (16, (95, 27), (6, 2)),
        (16, (683, 512), (43, 32)),
        (8, (224, 224), (27, 27)),  # as upstream: the last 8 pixels are the second half of the last patch
        (8, (225, 64), (28, 7)),
    ],
)
def test_any_size(stride, size, grid):
    vim = Vim({**SMALL, 'patch_stride': stride}, out_indices=(1, 3)).eval()
    with torch.no_grad():
        outs = vim(torch.rand(1, 3, *size))
    assert isinstance(outs, tuple)
    assert [tuple(out.shape) for out in outs] == [(1, 32, *grid)] * 2
    assert all(out.is_contiguous() and out.isfinite().all() for out in outs)


def test_padding_is_zeros_at_right_and_bottom():
    vim = Vim(SMALL).eval()
    x = torch.rand(1, 3, 40, 50)
    padded = torch.nn.functional.pad(x, (0, 14, 0, 8))
    torch.testing.assert_close(vim(x), vim(padded))


def test_out_types_agree():
    vim = Vim(SMALL, out_type='raw', with_cls_token=True, final_norm=True).eval()
    x = torch.rand(2, 3, 64, 80)
    (tokens,) = vim(x)
    assert tokens.shape == (2, 4 * 5 + 1, 32)
    vim.out_type = 'cls_token'
    torch.testing.assert_close(vim(x)[0], tokens[:, 10])
    vim.out_type = 'featmap'
    patches = torch.cat([tokens[:, :10], tokens[:, 11:]], 1)
    torch.testing.assert_close(vim(x)[0], patches.transpose(1, 2).reshape(2, 32, 4, 5))


def test_layer_depth():
    vim = Vim(SMALL, with_cls_token=True, final_norm=True)
    expected = {'backbone.pos_embed': 0, 'backbone.cls_token': 0, 'backbone.patch_embed.proj.bias': 0}
    expected |= {'backbone.layers.0.norm.weight': 1, 'backbone.layers.3.mixer.A_logs': 4}
    expected |= {'backbone.norm_f.weight': 5, 'decode_head.conv_seg.weight': 5}
    for name, depth in expected.items():
        assert vim.get_layer_depth(name, 'backbone.') == (depth, 6), name


def test_position_embedding_follows_the_weights():
    vim = Vim(SMALL, pretrain_img_size=64).eval()
    x = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        before = vim(x)[0]
        torch.testing.assert_close(vim(x)[0], before, rtol=0, atol=0)  # from the cache
        vim.pos_embed.add_(1.0)
        after = vim(x)[0]
        assert not torch.allclose(before, after)
        vim.double()
        torch.testing.assert_close(vim(x.double())[0].float(), after, rtol=1e-4, atol=1e-4)


def test_two_hundred_sizes_do_not_grow_memory():
    vim = Vim({**SMALL, 'depth': 1}, pretrain_img_size=64).eval()
    alive = []
    with torch.no_grad():
        for i in range(200):
            vim(torch.zeros(1, 3, 16 * (1 + i % 20), 16 * (1 + i // 20)))
            if i in (20, 199):
                gc.collect()
                alive.append(sum(1 for x in gc.get_objects() if torch.is_tensor(x)))
    assert alive[1] <= alive[0]  # fewer when an earlier test's garbage goes meanwhile
    assert len(vim.position_embedding._cache) == 8


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_stays_close(dtype):
    vim = Vim(SMALL, out_indices=(0, 3)).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = vim(x)
    with torch.autocast('cpu', dtype):
        rough = vim(x)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32  # the residual stream
        assert (a - b).norm() < 0.03 * a.norm()


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
def test_parameters_in_bfloat16(out_type):
    vim = Vim(SMALL, out_type=out_type).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = vim(x)[0]
    rough = vim.bfloat16()(x.bfloat16())[0]
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).norm() < 0.03 * exact.norm()


def test_compile_without_a_graph_break():
    # With symbolic sizes, compilation takes long for each further block.
    vim = Vim({**SMALL, 'depth': 2}, pretrain_img_size=64, out_indices=(0, 1)).eval()
    compiled = torch.compile(vim, fullgraph=True, backend='eager', dynamic=True)
    for size in ((64, 64), (80, 112)):
        x = torch.rand(1, 3, *size)
        torch.testing.assert_close(compiled(x), vim(x))


def test_compiled_training_step():
    vim = Vim(SMALL).train()
    x = torch.rand(1, 3, 48, 64)
    vim(x)[0].square().sum().backward()
    expected = [p.grad.clone() for p in vim.parameters()]
    vim.zero_grad()
    torch.compile(vim, fullgraph=True, backend='aot_eager')(x)[0].square().sum().backward()
    for p, grad in zip(vim.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_export_and_trace():
    vim = Vim(SMALL, out_indices=(1, 3)).eval()
    x = torch.rand(1, 3, 64, 80)
    exported = torch.export.export(vim, (x,))
    torch.testing.assert_close(exported.module()(x), vim(x))
    assert any('mmvim.scan' in str(node.target) for node in exported.graph.nodes)
    with torch.no_grad():
        traced = torch.jit.trace(vim, x)
        torch.testing.assert_close(traced(x + 1), vim(x + 1))


def test_mixer_directions_mirror_each_other():
    mixer = BidirectionalMixer(16, d_state=4)
    state = mixer.state_dict()
    mirrored = BidirectionalMixer(16, d_state=4)
    mirrored.load_state_dict(
        {k: v.flip(0) if k not in ('in_proj.weight', 'out_proj.weight') else v for k, v in state.items()}
    )
    x = torch.rand(2, 37, 16)
    torch.testing.assert_close(mirrored(x.flip(1)).flip(1), mixer(x))
