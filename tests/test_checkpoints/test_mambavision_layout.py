"""MambaVision's published layout to ours and back, and backbones filled from such files."""

from pathlib import Path

import pytest
import torch
from official_mambavision import VARIANTS, classifier_shapes, dense_shapes
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.layouts.mambavision import describe
from mmvim.models import MambaVision, Vim

OUTNORMS = {f'outnorm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')}
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')
CLASSIFIER = {f'classifier.norm.{leaf}' for leaf in ('weight', 'bias', *STATISTICS)}
CLASSIFIER |= {'classifier.head.weight', 'classifier.head.bias'}


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


@pytest.mark.parametrize('arch', VARIANTS)
def test_expected_keys(arch: str) -> None:
    """A classifier lacks the norms of the outputs, and has its own norm and head; all else fits."""
    with torch.device('meta'):
        own = {key: tuple(tensor.shape) for key, tensor in MambaVision(arch).state_dict().items()}
    official = {key: torch.empty(shape, device='meta') for key, shape in classifier_shapes(arch).items()}
    ours = from_official(official)
    found = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    assert own.keys() - found.keys() == OUTNORMS
    assert found.keys() - own.keys() == CLASSIFIER
    assert {key for key in own.keys() & found.keys() if own[key] != found[key]} == set()
    assert f'arch {arch!r} ' in describe(ours, MambaVision.arch_zoo)


@pytest.mark.parametrize('prefix', ['', 'module.module.', 'backbone.', 'model.backbone.'])
def test_round_trip(prefix: str) -> None:
    """There and back; what is in ours stays; names of other parts of a model are left alone."""
    official = {prefix + key: tensor for key, tensor in drawn(classifier_shapes('tiny')).items()}
    others = {'neck.norm.weight': torch.ones(2), 'head.fc.weight': torch.ones(3), 'norm.bias': torch.ones(1)}
    if not prefix:
        others = {}
    ours = from_official({**official, **others})
    assert_same(from_official(ours), ours)
    assert_same(to_official(ours), {**official, **others})
    for key, theirs in {
        'classifier.norm.running_var': 'norm.running_var',
        'classifier.head.bias': 'head.bias',
        'patch_embed.norm2.weight': 'patch_embed.conv_down.4.weight',
        'levels.0.downsample.conv.weight': 'levels.0.downsample.reduction.0.weight',
        'levels.1.blocks.2.norm.running_mean': 'levels.1.blocks.2.norm1.running_mean',
        'levels.3.blocks.0.mixer.dt_projs_bias': 'levels.3.blocks.0.mixer.dt_proj.bias',
    }.items():
        assert torch.equal(ours[prefix + key].squeeze(), official[prefix + theirs].squeeze()), key
    halves = [official[f'{prefix}levels.2.blocks.1.mixer.conv1d_{half}.weight'] for half in 'xz']
    assert torch.equal(ours[f'{prefix}levels.2.blocks.1.mixer.conv1d_weight'][0], torch.cat(halves)[:, 0])


def test_published_classifier(tmp_path: Path) -> None:
    """The file has the weights under ``state_dict``, beside what the training script kept."""
    official = drawn(classifier_shapes('tiny'))
    torch.save(
        {'epoch': 300, 'arch': 'mamba_vision_T', 'state_dict': official}, tmp_path / 'mambavision_tiny_1k.pth.tar'
    )
    path = str(tmp_path / 'mambavision_tiny_1k.pth.tar')
    model = MambaVision('tiny', init_cfg={'type': 'Pretrained', 'checkpoint': path})
    model.init_weights()
    expected = from_official(official)
    for key, tensor in model.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            fresh = torch.ones_like(tensor) if key.endswith('weight') else torch.zeros_like(tensor)
            assert torch.equal(tensor, expected.get(key, fresh)), key
    report = load_backbone(model, path, expected_missing=MambaVision.expected_missing)
    assert set(report.left_out) == CLASSIFIER and set(report.left_out.values()) == {'classifier'}
    assert set(report.new) == OUTNORMS
    assert report.matched == report.total == len(model.state_dict()) - 8


@pytest.mark.parametrize('prefix', ['backbone.', 'module.module.backbone.'])
def test_published_detector(prefix: str, tmp_path: Path) -> None:
    """A dense file has the norms of the outputs, and the rest of the model beside."""
    official = {prefix + key: tensor for key, tensor in drawn(dense_shapes('tiny')).items()}
    others = {
        'neck.fpn_convs.0.conv.weight': torch.ones(1),
        'roi_head.bbox_head.0.shared_convs.0.bn.weight': torch.ones(1),
    }
    if prefix != 'backbone.':
        others = {f'module.module.{key}': tensor for key, tensor in others.items()}
    torch.save({'state_dict': official | others}, tmp_path / 'a.pth')
    report = load_backbone(MambaVision('tiny', window_sizes=(112, 56)), tmp_path / 'a.pth')
    assert report.matched == len(from_official(official))
    assert not report.new and set(report.left_out.values()) == {'not of the backbone'}


def test_whole_model() -> None:
    """What our own training writes goes into the whole model."""
    model = torch.nn.Module()
    model.backbone = MambaVision({'embed_dims': 8, 'depths': (1, 1, 2), 'heads': (2,)}, out_indices=2)
    model.decode_head = torch.nn.Conv2d(4, 2, 1)
    state = {key: torch.rand_like(x) if x.is_floating_point() else x for key, x in model.state_dict().items()}
    report = load_model(model, {'state_dict': dict(state)}, 'a.pth')
    assert report.matched == report.total == len(state)
    assert_same(model.state_dict(), state)


def test_conversion_of_files(tmp_path: Path) -> None:
    torch.save({'state_dict': drawn(classifier_shapes('tiny'))}, tmp_path / 'a.pth.tar')
    said = convert(tmp_path / 'a.pth.tar', tmp_path / 'ours.pth')
    assert '(MambaVision, layout: ours)' in said
    convert(tmp_path / 'ours.pth', tmp_path / 'official.pth', to='official')
    assert_same(torch.load(tmp_path / 'official.pth', weights_only=True)['model'], drawn(classifier_shapes('tiny')))


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('tiny2', r"a\.pth holds a MambaVision of arch 'tiny' \(80 wide, depths 1-3-8-4\), the model is .* 'tiny2' "),
        ('small', r"arch 'tiny'.*arch 'small'.*of other shape: patch_embed\.conv1\.weight \(32, 3, 3, 3\) for \(64, 3"),
        (
            {'embed_dims': 80, 'depths': (1, 3), 'heads': ()},
            r'the model is a MambaVision \(80 wide, depths 1-3\); .*unknown',
        ),
    ],
)
def test_another_variant(model: str | dict, message: str, tmp_path: Path) -> None:
    torch.save(drawn(classifier_shapes('tiny')), tmp_path / 'a.pth')
    backbone = MambaVision(model, out_indices=(0, 1))
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(RuntimeError, match=message):
        load_backbone(backbone, tmp_path / 'a.pth', expected_missing=MambaVision.expected_missing)
    assert_same(backbone.state_dict(), before)


def test_half_of_a_convolution(tmp_path: Path) -> None:
    state = drawn(classifier_shapes('tiny'))
    del state['levels.2.blocks.0.mixer.conv1d_z.weight']
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(
        ValueError, match=r'a\.pth: there is no levels\.2\.blocks\.0\.mixer\.conv1d_z\.weight beside the'
    ):
        load_backbone(MambaVision('tiny'), tmp_path / 'a.pth')


def test_several_walks_have_no_official_names() -> None:
    model = MambaVision({'embed_dims': 8, 'depths': (1, 1, 2), 'heads': (2,)}, out_indices=2, walks='cross')
    with pytest.raises(ValueError, match='A_logs is of 4 walks, official files have names for one'):
        to_official({'levels.2.blocks.0.mixer.A_logs': model.state_dict()['levels.2.blocks.0.mixer.A_logs']})


def test_another_family(tmp_path: Path) -> None:
    vim = Vim({'embed_dims': 32, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    small = MambaVision({'embed_dims': 8, 'depths': (1, 1, 2), 'heads': (2,)}, out_indices=2)
    torch.save(small.state_dict(), tmp_path / 'mambavision.pth')
    with pytest.raises(RuntimeError, match=r'vim\.pth holds Vim, the model is MambaVision'):
        load_backbone(small, tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match=r'mambavision\.pth holds MambaVision, the model is Vim'):
        load_backbone(vim, tmp_path / 'mambavision.pth')
    load_backbone(small, tmp_path / 'mambavision.pth')
