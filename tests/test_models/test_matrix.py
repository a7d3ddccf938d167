"""What every backbone does in the same way, whatever its family."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmvim.models import (
    DeiT,
    EfficientVMamba,
    LocalVim,
    LocalVMamba,
    MambaOut,
    MambaVision,
    PlainMamba,
    Vim,
    VMamba,
)
from mmvim.models.backbones.base import Backbone
from mmvim.models.backbones.plain import PlainBackbone

STAGES = {'embed_dims': 16, 'depths': (1, 1, 2, 1)}
GATED = {'ssm_ratio': 2.0, 'd_state': 4, 'gate': True, 'conv_bias': True, 'mlp_ratio': 0.0}
PATCHES = {'embed_dims': 32, 'depth': 4, 'patch_size': 16, 'patch_stride': 16, 'd_state': 4}
CONTINUOUS = {'embed_dims': 32, 'depth': 4, 'conv_blocks': (1,), 'd_state': 4, 'd_conv': 3}
BUILD: dict[str, Callable[..., Backbone]] = {
    'vim': partial(Vim, PATCHES),
    'vim with a class token': partial(Vim, PATCHES, with_cls_token=True, final_norm=True),
    'vim with rope': partial(Vim, PATCHES, rope=True, rope_residual=True),
    'vim with branches': partial(Vim, PATCHES, feature='branch'),
    'localvim': partial(LocalVim, PATCHES),
    'localvim with a class token': partial(LocalVim, PATCHES, with_cls_token=True, final_norm=True),
    'localvim as its authors have it': partial(
        LocalVim, PATCHES, directions=('v', 'w2', 'w7_flip'), feature='branch', norm='layer', legacy_reverse=True
    ),
    'localvmamba': partial(LocalVMamba, {**STAGES, 'd_state': 4}, directions=[['h', 'w7'], *4 * [['v', 'w2_flip']]]),
    'deit': partial(DeiT, {'embed_dims': 32, 'depth': 4, 'heads': 2}),
    'vmamba': partial(VMamba, STAGES),
    'vmamba v0': partial(VMamba, {**STAGES, **GATED, 'patch_embed': 'plain', 'downsample': 'merge'}),
    'mambaout': partial(MambaOut, {'embed_dims': (16, 24, 32, 40), 'depths': (1, 1, 2, 1)}),
    'mambavision': partial(
        MambaVision,
        {'embed_dims': 16, 'stem_dims': 8, 'depths': (1, 1, 3, 2), 'heads': (2, 4), 'layer_scale': 0.5},
        window_sizes=(3, 2),
    ),
    'efficientvmamba': partial(EfficientVMamba, {'embed_dims': (16, 24, 32, 40), 'depths': (1, 1, 2, 1), 'd_state': 4}),
    'plainmamba': partial(PlainMamba, CONTINUOUS),
    'plainmamba as published': partial(PlainMamba, CONTINUOUS, raster_parameters=True, double_dt_bias=True),
}
# Names of weights as files written before have them, without the numbers of blocks and stages.
NAMES = {
    'vim': """pos_embed patch_embed.proj.* layers.N.norm.weight layers.N.mixer.A_logs layers.N.mixer.Ds
        layers.N.mixer.conv1d_weight layers.N.mixer.conv1d_bias layers.N.mixer.dt_projs_weight
        layers.N.mixer.dt_projs_bias layers.N.mixer.in_proj.weight layers.N.mixer.out_proj.weight
        layers.N.mixer.x_proj_weight""",
    'localvim': """pos_embed patch_embed.proj.* layers.N.norm.weight layers.N.mixer.A_logs layers.N.mixer.Ds
        layers.N.mixer.conv1d_weight layers.N.mixer.conv1d_bias layers.N.mixer.dt_projs_weight
        layers.N.mixer.dt_projs_bias layers.N.mixer.in_proj.weight layers.N.mixer.out_proj.weight
        layers.N.mixer.x_proj_weight layers.N.mixer.attn.norm.* layers.N.mixer.attn.global_reduce.*
        layers.N.mixer.attn.channel_select.* outnorm0.* outnorm1.* outnorm2.* outnorm3.*""",
    'localvmamba': """patch_embed.N.conv.* patch_embed.N.norm.* layers.N.downsample.norm.*
        layers.N.downsample.reduction.weight layers.N.blocks.N.norm.* layers.N.blocks.N.op.A_logs
        layers.N.blocks.N.op.Ds layers.N.blocks.N.op.conv2d.* layers.N.blocks.N.op.dt_projs_weight
        layers.N.blocks.N.op.dt_projs_bias layers.N.blocks.N.op.in_proj.weight layers.N.blocks.N.op.out_norm.*
        layers.N.blocks.N.op.out_proj.weight layers.N.blocks.N.op.x_proj_weight layers.N.blocks.N.op.attn.norm.*
        layers.N.blocks.N.op.attn.global_reduce.* layers.N.blocks.N.op.attn.channel_select.*
        outnorm0.* outnorm1.* outnorm2.* outnorm3.*""",
    'deit': """pos_embed patch_embed.proj.* blocks.N.norm1.* blocks.N.attn.qkv.* blocks.N.attn.proj.* blocks.N.norm2.*
        blocks.N.mlp.fc1.* blocks.N.mlp.fc2.*""",
    'vmamba': """patch_embed.N.conv.* patch_embed.N.norm.* layers.N.downsample.conv.* layers.N.downsample.norm.*
        layers.N.blocks.N.norm.* layers.N.blocks.N.norm2.* layers.N.blocks.N.mlp.fc1.* layers.N.blocks.N.mlp.fc2.*
        layers.N.blocks.N.op.A_logs layers.N.blocks.N.op.Ds layers.N.blocks.N.op.conv2d.weight
        layers.N.blocks.N.op.dt_projs_weight layers.N.blocks.N.op.dt_projs_bias layers.N.blocks.N.op.in_proj.weight
        layers.N.blocks.N.op.out_norm.* layers.N.blocks.N.op.out_proj.weight layers.N.blocks.N.op.x_proj_weight
        outnorm0.* outnorm1.* outnorm2.* outnorm3.*""",
    'mambaout': """stem.conv1.* stem.conv2.* stem.norm1.* stem.norm2.* stages.N.downsample.conv.*
        stages.N.downsample.norm.* stages.N.blocks.N.norm.* stages.N.blocks.N.fc1.* stages.N.blocks.N.conv.*
        stages.N.blocks.N.fc2.* outnorm0.* outnorm1.* outnorm2.* outnorm3.*""",
    'mambavision': """patch_embed.conv1.weight patch_embed.conv2.weight patch_embed.norm1.* patch_embed.norm2.*
        levels.N.downsample.conv.weight levels.N.blocks.N.conv1.* levels.N.blocks.N.conv2.* levels.N.blocks.N.norm.*
        levels.N.blocks.N.norm2.* levels.N.blocks.N.mixer.in_proj.weight levels.N.blocks.N.mixer.out_proj.weight
        levels.N.blocks.N.mixer.conv1d_weight levels.N.blocks.N.mixer.x_proj_weight levels.N.blocks.N.mixer.A_logs
        levels.N.blocks.N.mixer.Ds levels.N.blocks.N.mixer.dt_projs_weight levels.N.blocks.N.mixer.dt_projs_bias
        levels.N.blocks.N.mixer.qkv.* levels.N.blocks.N.mixer.proj.* levels.N.blocks.N.mlp.fc1.*
        levels.N.blocks.N.mlp.fc2.* levels.N.blocks.N.gamma_1 levels.N.blocks.N.gamma_2
        outnorm0.* outnorm1.* outnorm2.* outnorm3.*"""
    + ''.join(
        f' {norm}.{leaf}'
        for norm in ('patch_embed.norm1', 'patch_embed.norm2', 'levels.N.blocks.N.norm', 'levels.N.blocks.N.norm2')
        for leaf in ('running_mean', 'running_var', 'num_batches_tracked')
    ),
    'efficientvmamba': """patch_embed.N.conv.* patch_embed.N.norm.* layers.N.downsample.norm.*
        layers.N.downsample.reduction.weight layers.N.blocks.N.norm.* layers.N.blocks.N.op.A_logs
        layers.N.blocks.N.op.Ds layers.N.blocks.N.op.conv2d.* layers.N.blocks.N.op.dt_projs_weight
        layers.N.blocks.N.op.dt_projs_bias layers.N.blocks.N.op.in_proj.weight
        layers.N.blocks.N.op.out_norm.* layers.N.blocks.N.op.out_proj.weight
        layers.N.blocks.N.op.x_proj_weight layers.N.blocks.N.conv_branch.N.*
        layers.N.blocks.N.conv_branch.N.STATE layers.N.blocks.N.se.norm.*
        layers.N.blocks.N.se.global_reduce.* layers.N.blocks.N.se.channel_select.*
        layers.N.blocks.N.conv_pw.N.* layers.N.blocks.N.conv_pw.N.STATE
        layers.N.blocks.N.conv_dw.N.* layers.N.blocks.N.conv_dw.N.STATE
        layers.N.blocks.N.conv_pw2.N.* layers.N.blocks.N.conv_pw2.N.STATE
        layers.N.blocks.N.se.conv_reduce.* layers.N.blocks.N.se.conv_expand.* outnorm0.*
        outnorm1.* outnorm2.* outnorm3.*""",
    'plainmamba': """pos_embed patch_embed.stem.N.* patch_embed.stem.N.STATE patch_embed.convs.N.*
        patch_embed.convs.N.STATE patch_embed.projection.* layers.N.norm.* layers.N.dw.N.* layers.N.dw.N.STATE
        layers.N.mamba.A_logs layers.N.mamba.Ds layers.N.mamba.direction_Bs layers.N.mamba.x_proj_weight
        layers.N.mamba.dt_projs_weight layers.N.mamba.dt_projs_bias layers.N.mamba.in_proj.* layers.N.mamba.conv2d.*
        layers.N.mamba.out_proj.* outnorm0.* outnorm1.* outnorm2.* norm_f.*""",
}
EVERY = pytest.mark.parametrize('build', BUILD.values(), ids=BUILD)
SHAPE = (2, 3, 64, 48)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def blocks_of(backbone: Backbone) -> list[nn.Module]:
    """All blocks in the order of an image's way through them."""
    if isinstance(backbone, PlainBackbone):
        return list(getattr(backbone, backbone.blocks_name))
    return [block for stage in getattr(backbone, backbone.stages_name) for block in stage.blocks]


def loss_of(outs: tuple[Tensor, ...]) -> Tensor:
    # Not squares alone, which hardly depend on a normed map.
    return sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() + out.square().sum() for out in outs)


@EVERY
@pytest.mark.parametrize('size', [(64, 48), (33, 47), (16, 16)])
def test_maps_of_any_size(build: Callable, size: tuple[int, int]) -> None:
    backbone = build(out_indices=(0, 1, 2, 3)).eval()
    outs = backbone(torch.rand(2, 3, *size))
    assert isinstance(outs, tuple) and all(out.is_contiguous() and out.isfinite().all() for out in outs)
    plain = isinstance(backbone, PlainBackbone)
    dims = [backbone.embed_dims] * 4 if plain else backbone.dims
    assert [out.shape[:2] for out in outs] == [(2, channels) for channels in dims]
    if plain:
        assert {out.shape[2:] for out in outs} == {tuple(-(-side // 16) for side in size)}
    else:
        assert all(
            b == -(-a // 2) for i in range(3) for a, b in zip(outs[i].shape[2:], outs[i + 1].shape[2:], strict=True)
        )


@EVERY
def test_outputs_are_chosen(build: Callable) -> None:
    every, some = build(out_indices=(0, 1, 2, 3)).eval(), build(out_indices=(0, -2)).eval()
    assert not some.load_state_dict(every.state_dict(), strict=False).missing_keys
    x = torch.rand(SHAPE)
    outs = every(x)
    torch.testing.assert_close(some(x), (outs[0], outs[2]), rtol=0, atol=0)


@EVERY
@pytest.mark.parametrize('last', [0, 2, 3])
def test_blocks_behind_the_last_output_are_not_computed(build: Callable, last: int) -> None:
    backbone, ran = build(out_indices=(last,)), []
    for i, block in enumerate(blocks_of(backbone)):
        block.register_forward_hook(lambda block, args, out, i=i: ran.append(i))
    backbone(torch.rand(SHAPE))
    expected = last + 1 if isinstance(backbone, PlainBackbone) else sum(backbone.depths[: last + 1])
    assert ran == list(range(expected))


@pytest.mark.parametrize(
    'family', ['localvmamba', 'vmamba', 'vmamba v0', 'mambaout', 'mambavision', 'efficientvmamba']
)
def test_outputs_without_norms(family: str) -> None:
    normed, bare = BUILD[family]().eval(), BUILD[family](out_norm=False).eval()
    assert bare.load_state_dict(normed.state_dict(), strict=False).unexpected_keys == [
        f'outnorm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')
    ]
    x = torch.rand(SHAPE)
    for i, (a, b) in enumerate(zip(normed(x), bare(x), strict=True)):
        torch.testing.assert_close(a, getattr(normed, f'outnorm{i}')(b.movedim(1, -1)).movedim(-1, 1))


@EVERY
def test_blocks_that_are_not_computed_stay_in_files(build: Callable) -> None:
    whole, early = build(out_indices=(0, 1, 2, 3)), build(out_indices=0)
    names = {name for name in whole.state_dict() if not name.startswith(('outnorm1', 'outnorm2', 'outnorm3'))}
    names -= {'norm_f.weight', 'norm_f.bias'} - set(early.state_dict())  # of the last block's output alone, or of all
    assert set(early.state_dict()) == names
    assert all(p.requires_grad for p in early.parameters())


@pytest.mark.parametrize('family', NAMES)
def test_names_of_weights(family: str) -> None:
    names = {re.sub(r'\.\d+', '.N', name) for name in BUILD[family](out_indices=(0, 1, 2, 3)).state_dict()}
    leaves = {'*': ('weight', 'bias'), 'STATE': ('running_mean', 'running_var', 'num_batches_tracked')}
    expected = set(NAMES[family].split())
    for mark, ends in leaves.items():
        expected = {name.replace(mark, leaf) for name in expected for leaf in ends}
    assert names == expected


@EVERY
def test_every_parameter_learns(build: Callable) -> None:
    backbone = build(out_indices=(0, 1, 2, 3)).train()
    loss_of(backbone(torch.rand(SHAPE))).backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@EVERY
def test_recomputing_blocks_changes_nothing(build: Callable) -> None:
    # Rates below 1 draw random numbers: recomputation has to draw the same ones.
    plain, saving = (build(out_indices=(1, 3), drop_path_rate=0.3, with_cp=flag).train() for flag in (False, True))
    saving.load_state_dict(plain.state_dict())
    x, results, kept = torch.rand(SHAPE), [], []
    for backbone in (plain, saving):
        torch.manual_seed(1)
        sizes = []
        embedding = getattr(backbone, getattr(backbone, 'embedding_name', 'patch_embed'))
        embedding.register_forward_hook(lambda *_, s=sizes: s.clear())  # that is not computed again
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            outs = backbone(x)
        kept.append(sum(sizes))
        loss_of(outs).backward()
        grads = [p.grad for p in backbone.parameters() if p.grad is not None]
        results.append([*outs, *grads, *backbone.buffers()])  # a batch is counted once
    assert len(results[0]) == len(results[1]) and all(map(torch.equal, *results))
    assert kept[1] < 0.6 * kept[0]


@EVERY
@pytest.mark.parametrize('frozen', [-1, 0, 2, 4])
def test_frozen_parts(build: Callable, frozen: int) -> None:
    backbone = build(out_indices=(0, 1, 2, 3), drop_path_rate=0.5, frozen_stages=frozen).train()
    plain = isinstance(backbone, PlainBackbone)
    count = frozen if plain else sum(backbone.depths[: max(frozen, 0)])
    _, num_layers = backbone.get_layer_depth('')
    for name, parameter in backbone.named_parameters():
        depth, _ = backbone.get_layer_depth(name)
        if name.startswith('outnorm'):
            expected = int(name[len('outnorm')]) < frozen
        elif depth == num_layers - 1:
            expected = frozen == 4  # the final norm
        elif '.downsample.' in name and isinstance(backbone, MambaOut):
            expected = depth < count  # in front of the next stage's blocks
        else:
            expected = frozen >= 0 and depth <= count
        assert parameter.requires_grad is not expected, name
    drops = [m for m in backbone.modules() if type(m).__name__ == 'DropPath']
    assert [drop.training for drop in drops] == [i >= count for i in range(len(drops))]
    outs = backbone(torch.rand(SHAPE))
    assert [out.requires_grad for out in outs] == [i >= frozen for i in range(4)]
    backbone.eval()
    assert not any(module.training for module in backbone.modules())


@EVERY
def test_blocks_are_dropped_in_training_only(build: Callable) -> None:
    backbone = build(drop_path_rate=0.8)
    rates = [m.rate for m in backbone.modules() if type(m).__name__ == 'DropPath']
    assert rates == pytest.approx([0.8 * i / (len(rates) - 1) for i in range(len(rates))])
    x = torch.rand(8, 3, 32, 32)
    backbone.eval()
    assert all(map(torch.equal, backbone(x), backbone(x)))
    backbone.train()
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(0.02 * torch.randn_like(p))  # some begin so small that a branch does not show
    assert not torch.equal(backbone(x)[-1], backbone(x)[-1])


@EVERY
def test_depth_of_parameters(build: Callable) -> None:
    backbone = build(out_indices=(0, 1, 2, 3))
    blocks = blocks_of(backbone)
    for i, block in enumerate(blocks):
        inside = {id(p) for p in block.parameters()}
        names = [f'backbone.{name}' for name, p in backbone.named_parameters() if id(p) in inside]
        assert {backbone.get_layer_depth(name, 'backbone.') for name in names} == {(i + 1, len(blocks) + 2)}
    for name in ('outnorm0.weight', 'norm_f.weight', 'decode_head.conv_seg.weight'):
        assert backbone.get_layer_depth(name)[0] == len(blocks) + 1
    assert backbone.get_layer_depth('neck.layers.0.weight', 'backbone.') == (len(blocks) + 1, len(blocks) + 2)


@EVERY
@pytest.mark.parametrize('shape', [(3, 64, 64), (1, 4, 64, 64)])
def test_other_images(build: Callable, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf'expected images \(B, 3, H, W\), got {re.escape(str(shape))}'):
        build()(torch.rand(shape))


@pytest.mark.parametrize(
    ('family', 'side'),
    [
        ('vim', 16), ('localvim', 16), ('deit', 16), ('vmamba v0', 4), ('localvmamba', 4), ('efficientvmamba', 4),
    ],
)  # fmt: skip
def test_images_smaller_than_a_patch(family: str, side: int) -> None:
    with pytest.raises(ValueError, match=f'{side - 1} x 64 pixels is smaller than a patch of {side} x {side}'):
        BUILD[family]()(torch.rand(1, 3, side - 1, 64))


@EVERY
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'out_indices': (0, 4)}, 'numbered 0 to 3'),
        ({'out_indices': -5}, 'numbered 0 to 3'),
        ({'out_indices': ()}, 'numbered 0 to 3'),
        ({'out_indices': (1, 1)}, 'each of them once, in rising order'),
        ({'out_indices': (1, 0)}, 'each of them once, in rising order'),
        ({'frozen_stages': 5}, 'frozen_stages=5: expected -1 to 4'),
        ({'drop_path_rate': 1.0}, 'drop path rate: expected 0 <= rate < 1'),
    ],
)
def test_bad_arguments(build: Callable, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    'family', [Vim, DeiT, LocalVim, LocalVMamba, VMamba, MambaOut, MambaVision, EfficientVMamba, PlainMamba]
)
@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        ('huge', "arch 'huge': expected one of .*, or a dict"),
        ({'embed_dims': 32}, r"needs .*missing: \['depth"),
        ({'embed_dims': 32, 'colour': 3}, r"unknown: \['colour'\]"),
    ],
)
def test_bad_arch(family: type[Backbone], arch: str | dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(arch)


@EVERY
def test_images_of_a_batch_do_not_mix(build: Callable) -> None:
    backbone, x = build().eval(), torch.rand(3, 3, 40, 48)
    torch.testing.assert_close(backbone(x)[-1][1:2], backbone(x[1:2])[-1])


@EVERY
def test_copies_and_files(build: Callable) -> None:
    backbone, other, x = build().eval(), build().eval(), torch.rand(1, 3, 80, 64)
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        expected = backbone(x)
        for copied in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone)), other):
            assert all(map(torch.equal, copied(x), expected))


def constant(value: float, layer: str = 'Linear') -> dict:
    return {'type': 'Constant', 'layer': layer, 'val': value}


@EVERY
def test_initialisers_in_their_order(build: Callable) -> None:
    backbone = build(init_cfg=[constant(1.0), constant(2.0, 'Conv2d'), constant(3.0)])
    backbone.init_weights()
    for module in backbone.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            assert (module.weight == (3 if isinstance(module, nn.Linear) else 2)).all()
    assert backbone.is_init and isinstance(backbone.init_cfg, list)


@EVERY
@pytest.mark.parametrize('first', [True, False])
def test_a_file_comes_after_the_initialisers(build: Callable, first: bool, tmp_path: Path) -> None:
    """Wherever it stands in the list; what is not in it is as the initialisers leave it."""
    path, source = tmp_path / 'own.pth', build()
    torch.save({name: x for name, x in source.state_dict().items() if not name.startswith('outnorm')}, path)
    entries = [constant(7.0), constant(5.0, 'LayerNorm')]
    entries.insert(0 if first else 2, {'type': 'Pretrained', 'checkpoint': str(path)})
    backbone = build(init_cfg=entries)
    backbone.init_weights()
    for name, tensor in backbone.state_dict().items():
        if name.startswith('outnorm'):
            assert (tensor == (5 if name.endswith('weight') else 0)).all()
        else:
            assert torch.equal(tensor, source.state_dict()[name]), name


@EVERY
def test_a_list_of_one_file(build: Callable, tmp_path: Path) -> None:
    source, backbone = build(), build(init_cfg=[{'type': 'Pretrained', 'checkpoint': str(tmp_path / 'own.pth')}])
    own, other = source.state_dict(), build().state_dict()
    file = {f'teacher.net.{name}': x for name, x in own.items()} | {
        f'student.net.{name}': x for name, x in other.items()
    }
    torch.save(file, tmp_path / 'own.pth')
    with pytest.raises(RuntimeError, match='own.pth'):  # which of them is meant?
        backbone.init_weights()
    backbone.init_cfg[0]['prefix'] = 'teacher.net'
    backbone.init_weights()
    assert all(torch.equal(x, source.state_dict()[name]) for name, x in backbone.state_dict().items())


@pytest.mark.parametrize('init_cfg', ['weights.pth', [None], {'checkpoint': 'weights.pth'}])
def test_no_init_cfg(init_cfg: object) -> None:
    with pytest.raises(TypeError, match='init_cfg: expected a dict with a type, or a list of such, got'):
        BUILD['deit'](init_cfg=init_cfg).init_weights()
