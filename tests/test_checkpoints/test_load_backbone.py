"""Backbones filled from official and own files: everything matches, or the message says what does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from official import CLASSIFIERS, official_shapes, official_state, save_classifier
from torch import nn

from mmvim.checkpoints import from_official, load_backbone
from mmvim.models.backbones.vim import Vim
from mmvim.models.layers import resize_pos_embed

DEPTH = 2
SHALLOW = {'embed_dims': 192, 'depth': DEPTH, 'patch_size': 16, 'patch_stride': 16}


def shallow(**kwargs: Any) -> Vim:
    return Vim({**SHALLOW, **kwargs.pop('arch', {})}, **kwargs)


def official_file(folder: Path, depth: int = DEPTH) -> Path:
    return save_classifier(folder, 'tiny', depth)


@pytest.mark.parametrize('variant', CLASSIFIERS)
def test_expected_keys(variant: str) -> None:
    """The file of every variant holds what its backbone has, and beyond that only what is known to be left out."""
    with torch.device('meta'):
        own = {key: tuple(value.shape) for key, value in Vim(CLASSIFIERS[variant][1]).state_dict().items()}
        official = {key: torch.empty(shape) for key, shape in official_shapes(f'{variant}_cls').items()}
    found = {key: tuple(value.shape) for key, value in from_official(official).items()}
    assert found.keys() - own.keys() == {'cls_token', 'head.weight', 'head.bias', 'norm_f.weight'}
    assert own.keys() <= found.keys()
    assert [key for key in own if own[key] != found[key]] == ['pos_embed']
    assert found['pos_embed'][1] == own['pos_embed'][1] + 1


def test_whole_depth(tmp_path: Path) -> None:
    model = Vim('tiny')
    report = load_backbone(model, save_classifier(tmp_path))
    assert report.matched == report.total == len(model.state_dict()) == 243


def test_dense_model_from_classifier(tmp_path: Path) -> None:
    official = official_state('tiny_cls', DEPTH)
    model = shallow(pretrain_img_size=(192, 256))
    report = load_backbone(model, official_file(tmp_path))
    own = model.state_dict()
    for key, tensor in from_official(official).items():
        if key in own and key != 'pos_embed':
            assert torch.equal(own[key], tensor), key
    table = official['pos_embed']
    patches = torch.cat([table[:, :98], table[:, 99:]], 1)
    assert torch.equal(own['pos_embed'], resize_pos_embed(patches, (14, 14), (12, 16)))
    assert str(report) == (
        'vim_t_midclstok_76p1acc.pth: 23 of 23 backbone tensors matched; '
        'position embedding 14 x 14 resized to 12 x 16; row of the class token taken out of the position embedding; '
        'left out: cls_token (the model has no class token), head.weight, head.bias (classifier), '
        'norm_f.weight (the model uses no final norm)'
    )


def test_class_row_of_the_stride_8_file(tmp_path: Path) -> None:
    model = shallow(arch={'patch_stride': 8})
    load_backbone(model, save_classifier(tmp_path, 'tiny_plus', DEPTH))
    table = official_state('tiny_plus_cls', DEPTH)['pos_embed']
    assert torch.equal(model.pos_embed, torch.cat([table[:, :364], table[:, 365:]], 1))


def test_model_with_class_token(tmp_path: Path) -> None:
    official = official_state('tiny_cls', DEPTH)
    same = shallow(out_type='cls_token')
    report = load_backbone(same, official_file(tmp_path))
    assert torch.equal(same.pos_embed, official['pos_embed']) and torch.equal(same.cls_token, official['cls_token'])
    assert torch.equal(same.norm_f.weight, official['norm_f.weight'])
    assert set(report.left_out) == {'head.weight', 'head.bias'}
    other = shallow(out_type='cls_token', pretrain_img_size=256)
    load_backbone(other, official_file(tmp_path))
    assert torch.equal(other.pos_embed[:, 128], official['pos_embed'][:, 98])


@pytest.mark.parametrize('model', ['tiny_seg', 'tiny_det'])
@pytest.mark.parametrize('wrap', ['bare', 'whole', 'parallel'])
def test_from_dense_models(tmp_path: Path, model: str, wrap: str) -> None:
    """Whole segmentors (mmseg) and detectors (detectron2), whose pyramid is part of the backbone."""
    state = official_state(model, DEPTH)
    whole = {'backbone.' + key: tensor for key, tensor in state.items()} | {'decode_head.conv.weight': torch.ones(3)}
    content = {
        'bare': {'state_dict': state},
        'whole': {'model' if model == 'tiny_det' else 'state_dict': whole},
        'parallel': {'module.' + key: tensor for key, tensor in whole.items()},
    }[wrap]
    torch.save(content, tmp_path / 'a.pth')
    backbone = shallow(pretrain_img_size=1024 if model == 'tiny_det' else 512)
    report = load_backbone(backbone, tmp_path / 'a.pth')
    assert report.matched == len(backbone.state_dict())
    net = 'net.' if model == 'tiny_det' else ''
    assert torch.equal(backbone.layers[1].mixer.Ds[1], state[f'{net}layers.1.mixer.D_b'])
    assert torch.equal(backbone.pos_embed, state[f'{net}pos_embed'])


def test_own_files_and_prefix(tmp_path: Path) -> None:
    source, target = shallow(), shallow()
    torch.save({'state_dict': {f'teacher.net.{k}': v for k, v in source.state_dict().items()}}, tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'no tensor under student\.'):
        load_backbone(target, tmp_path / 'a.pth', prefix='student')
    load_backbone(target, tmp_path / 'a.pth', prefix='teacher.net')
    assert torch.equal(target.layers[0].mixer.A_logs, source.layers[0].mixer.A_logs)
    assert torch.equal(target.pos_embed, source.pos_embed)


def test_init_cfg(tmp_path: Path) -> None:
    path = official_file(tmp_path)
    model = shallow(init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    model.init_weights()
    assert torch.equal(model.patch_embed.proj.bias, official_state('tiny_cls', DEPTH)['patch_embed.proj.bias'])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (
            {'arch': {'embed_dims': 384}},
            r'holds a Vim \(192 wide, 2 deep, patch stride 16\), the model is a Vim \(384 wide.*23 of other shape: '
            r'pos_embed \(1, 197, 192\) for \(1, 196, 384\).* and 19 more',
        ),
        ({'arch': {'depth': 3}}, r'the model is a Vim \(192 wide, 3 deep.*10 missing in the file: layers\.2\.norm'),
        ({'arch': {'depth': 1}}, r'10 unknown to the model: layers\.1\.mixer\..* and 6 more'),
        (
            {'arch': {'patch_stride': 8}},
            r'pth: the file was made for patch stride 16, the model has patch stride 8: take the arch .*; '
            r'it holds a Vim .*patch stride 16\), the model is .*patch stride 8\)',
        ),
        ({'arch': {'d_state': 8}}, r'layers\.0\.mixer\.A_logs \(2, 384, 16\) for \(2, 384, 8\)'),
        ({'in_channels': 4}, r'patch_embed\.proj\.weight \(192, 3, 16, 16\) for \(192, 4, 16, 16\)'),
    ],
)
def test_another_variant(tmp_path: Path, kwargs: dict, message: str) -> None:
    path = official_file(tmp_path)
    model = shallow(**kwargs)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=message):
        load_backbone(model, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(('variant', 'name'), [('small', 'Vim-Small'), ('tiny_plus', r'Vim-Tiny\+')])
def test_variant_of_the_file_is_named(tmp_path: Path, variant: str, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf'holds {name} \(.*, the model is Vim-Tiny \(192 wide, 24 deep'):
        load_backbone(Vim('tiny'), save_classifier(tmp_path, variant))


@pytest.mark.parametrize(
    ('key', 'name'),
    [
        ('blocks.0.attn.qkv.weight', 'DeiT or another vision transformer'),
        ('layers.0.blocks.0.attn.relative_position_bias_table', 'Swin Transformer'),
        ('layer1.0.conv1.weight', 'ResNet'),
        ('layers.0.blocks.0.op.x_proj_weight', 'VMamba'),
        ('layers.0.blocks.0.self_attention.A_logs', 'VMamba'),
        ('backbone.layers.0.mixer.A_log', 'Mamba with one direction'),
        ('something', 'a model that is not known here'),
    ],
)
def test_another_model(tmp_path: Path, key: str, name: str) -> None:
    torch.save({'model': {key: torch.ones(1)}}, tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=rf'a\.pth holds {name}, the model is Vim'):
        load_backbone(shallow(), tmp_path / 'a.pth')


def test_no_weights(tmp_path: Path) -> None:
    torch.save({'epoch': 1, 'model': {'lr': 0.1}}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth: no weights among epoch, model'):
        load_backbone(shallow(), tmp_path / 'a.pth')


def test_half_a_pair(tmp_path: Path) -> None:
    state = official_state('tiny_cls', DEPTH)
    del state['layers.0.mixer.D_b']
    torch.save({'model': state}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth: layers\.0\.mixer\.D has no backward partner'):
        load_backbone(shallow(), tmp_path / 'a.pth')


def test_table_that_is_no_square(tmp_path: Path) -> None:
    torch.save(shallow(pretrain_img_size=(192, 256)).state_dict(), tmp_path / 'a.pth')
    load_backbone(shallow(pretrain_img_size=(192, 256)), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'a\.pth: pos_embed of 192 patches, no square'):
        load_backbone(shallow(), tmp_path / 'a.pth')


def test_expected_missing(tmp_path: Path) -> None:
    """Names that a family lists may be absent; everything else may not."""
    state = official_state('tiny_cls', DEPTH)
    del state['norm_f.weight']
    torch.save({'model': state}, tmp_path / 'a.pth')
    model = shallow(final_norm=True)
    with pytest.raises(RuntimeError, match=r'1 missing in the file: norm_f\.weight'):
        load_backbone(model, tmp_path / 'a.pth')
    report = load_backbone(model, tmp_path / 'a.pth', expected_missing=['norm_f'])
    assert set(report.new) == {'norm_f.weight'} and report.matched == len(model.state_dict()) - 1


def test_other_backbones(tmp_path: Path) -> None:
    """A backbone of no known family is matched by names and shapes."""
    source, target = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    nn.init.uniform_(source.weight)
    state = source.state_dict()
    del state['num_batches_tracked']
    torch.save({'state_dict': {'backbone.' + key: value for key, value in state.items()}}, tmp_path / 'a.pth')
    load_backbone(target, tmp_path / 'a.pth')
    assert torch.equal(target.weight, source.weight)
    with pytest.raises(RuntimeError, match=r'does not fit the backbone; 4 of other shape: weight \(3,\) for \(4,\)'):
        load_backbone(nn.BatchNorm2d(4), tmp_path / 'a.pth')
