"""EfficientVMamba's published layout to ours and back, and backbones filled from files as they were published."""

from pathlib import Path

import pytest
import torch
from official_efficientvmamba import CLASSIFIERS, classifier_shapes, dense_shapes
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.checkpoints.layouts.efficientvmamba import describe
from mmvim.models import EfficientVMamba, VMamba

OUTNORMS = {f'outnorm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')}
CLASSIFIER = {f'classifier.{part}.{leaf}' for part in ('norm', 'head') for leaf in ('weight', 'bias')}


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    counters = {key: torch.tensor(7) for key in shapes if key.endswith('num_batches_tracked')}
    return {key: counters.get(key, torch.rand(shape, generator=generator)) for key, shape in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_expected_keys(arch: str) -> None:
    """A classifier lacks the norms of the outputs, and has its own norm and head; all else fits. Dense files fit."""
    with torch.device('meta'):
        own = shapes_of(EfficientVMamba(arch).state_dict())
        classifier = {key: torch.empty(shape) for key, shape in classifier_shapes(arch).items()}
        dense = {key: torch.empty(shape) for key, shape in dense_shapes(arch).items()}
    ours = from_official(classifier)
    found = shapes_of(ours)
    assert own.keys() - found.keys() == OUTNORMS
    assert found.keys() - own.keys() == CLASSIFIER
    assert {key for key in own.keys() & found.keys() if own[key] != found[key]} == set()
    assert shapes_of(from_official(dense)) == own
    assert f'arch {arch!r} ' in describe(ours, EfficientVMamba.arch_zoo)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'model.backbone.'])
def test_round_trip(prefix: str) -> None:
    official = {prefix + key: tensor for key, tensor in drawn(classifier_shapes('tiny')).items()}
    others = {'neck.layers.2.1.weight': torch.ones(2), 'rpn_head.norm.bias': torch.ones(1)} if prefix else {}
    ours = from_official({**official, **others})
    assert_same(from_official(ours), ours)
    assert_same(to_official(ours), {**official, **others})
    for key, theirs in {
        'layers.2.blocks.0.conv_pw.0.weight': 'layers.2.1.conv_pw.0.weight',
        'layers.2.blocks.3.se.conv_expand.bias': 'layers.2.4.se.conv_expand.bias',
        'layers.2.downsample.norm.weight': 'layers.2.6.norm.weight',
        'layers.3.blocks.1.conv_pw2.1.running_var': 'layers.3.2.conv_pw2.1.running_var',
        'layers.0.downsample.reduction.weight': 'layers.0.downsample.reduction.weight',
        'patch_embed.0.norm.bias': 'patch_embed.2.bias',
    }.items():
        assert torch.equal(ours[prefix + key], official[prefix + theirs]), key
    assert ours[f'{prefix}layers.1.blocks.0.op.A_logs'].shape == (4, 192, 16)


@pytest.mark.parametrize('wrapper', ['', 'module.', 'module.module.'])
def test_published_classifier(wrapper: str, tmp_path: Path) -> None:
    """The authors' loader takes one wrapper's name off, of averaged weights around distributed ones."""
    file = tmp_path / CLASSIFIERS['tiny'][0]
    state = drawn(classifier_shapes('tiny'))
    torch.save({'state_dict': {wrapper + key: tensor for key, tensor in state.items()}, 'epoch': 299}, file)
    model = EfficientVMamba('tiny', init_cfg={'type': 'Pretrained', 'checkpoint': str(file)})
    model.init_weights()
    expected = from_official(state)
    for key, tensor in model.state_dict().items():
        fresh = torch.ones_like(tensor) if key.endswith('weight') else torch.zeros_like(tensor)
        assert torch.equal(tensor, expected.get(key, fresh)), key
    report = load_backbone(model, file, expected_missing=EfficientVMamba.expected_missing)
    assert set(report.left_out) == CLASSIFIER and set(report.left_out.values()) == {'classifier'}
    assert set(report.new) == OUTNORMS
    assert report.matched == report.total == len(model.state_dict()) - 8


def test_whole_model(tmp_path: Path) -> None:
    model = torch.nn.Module()
    model.backbone, model.neck = EfficientVMamba('tiny'), torch.nn.Conv2d(4, 2, 1)
    state = drawn(shapes_of(model.state_dict()))
    report = load_model(model, {'state_dict': to_official(state)}, 'a.pth')
    assert report.matched == report.total == len(state)
    assert_same(model.state_dict(), state)


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        # What upstream's config of the tiny detector asks for.
        (
            {'embed_dims': (48, 96, 192, 384), 'depths': (2, 2, 9, 2)},
            r"holds an EfficientVMamba of arch 'tiny' \(48-96-192-384 wide, depths 2-2-4-2\), the model is an "
            r'EfficientVMamba \(.*depths 2-2-9-2\).*missing in the file: layers\.2\.blocks\.4\.conv_pw\.0\.weight',
        ),
        ('small', r"arch 'tiny'.*arch 'small'.*of other shape: patch_embed\.0\.conv\.weight \(48, 3, 4, 4\)"),
    ],
)
def test_another_variant(arch: str | dict, message: str, tmp_path: Path) -> None:
    torch.save(drawn(classifier_shapes('tiny')), tmp_path / 'a.pth')
    backbone = EfficientVMamba(arch)
    with pytest.raises(RuntimeError, match=message):
        load_backbone(backbone, tmp_path / 'a.pth', expected_missing=EfficientVMamba.expected_missing)


def test_it_is_no_vmamba(tmp_path: Path) -> None:
    """Whose first generation has blocks with some of the same names."""
    small, scanned = EfficientVMamba({'embed_dims': (8, 8), 'depths': (1, 1)}, out_indices=1), {'embed_dims': 8}
    torch.save(small.state_dict(), tmp_path / 'efficientvmamba.pth')
    torch.save(to_official(small.state_dict()), tmp_path / 'official.pth')
    vmamba = VMamba({**scanned, 'depths': (1, 1), 'gate': True}, out_indices=1)
    torch.save(vmamba.state_dict(), tmp_path / 'vmamba.pth')
    for file in ('efficientvmamba.pth', 'official.pth'):
        with pytest.raises(RuntimeError, match='holds EfficientVMamba, the model is VMamba'):
            load_backbone(vmamba, tmp_path / file)
    with pytest.raises(RuntimeError, match='holds VMamba, the model is EfficientVMamba'):
        load_backbone(small, tmp_path / 'vmamba.pth')
