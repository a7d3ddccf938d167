"""MambaOut's published layouts, the authors' and timm's, to ours and back, and backbones filled from such files."""

from pathlib import Path

import pytest
import torch
from official_mambaout import VARIANTS, as_in_timm, classifier_shapes
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.layouts.mambaout import describe
from mmvim.models import MambaOut, Vim

OUTNORMS = {f'outnorm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')}
CLASSIFIER = {
    f'classifier.{part}.{leaf}' for part in ('norm', 'head.fc1', 'head.norm', 'head.fc2') for leaf in ('weight', 'bias')
}
LAYOUTS = {'authors': dict, 'timm': as_in_timm}


def drawn(arch: str) -> dict[str, Tensor]:
    """An official classifier with random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in classifier_shapes(arch).items()}


def empty(arch: str) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device='meta') for key, shape in classifier_shapes(arch).items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('arch', VARIANTS)
def test_expected_keys(arch: str, layout: str) -> None:
    """A classifier lacks the norms of the outputs, and has its own norm and head; all else fits."""
    with torch.device('meta'):
        own = {key: tuple(tensor.shape) for key, tensor in MambaOut(arch).state_dict().items()}
    ours = from_official(LAYOUTS[layout](empty(arch)))
    found = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    assert own.keys() - found.keys() == OUTNORMS
    assert found.keys() - own.keys() == CLASSIFIER
    assert {key for key in own.keys() & found.keys() if own[key] != found[key]} == set()
    assert f'arch {arch!r} ' in describe(ours, MambaOut.arch_zoo)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'model.backbone.'])
def test_round_trip(prefix: str) -> None:
    """There and back for both layouts; what is in ours stays; names of other parts of a model are left alone."""
    official = drawn('femto')
    others = {'neck.norm.weight': torch.ones(2), 'head.fc.weight': torch.ones(3), 'norm.bias': torch.ones(1)}
    if not prefix:
        others = {}
    official = {prefix + key: tensor for key, tensor in official.items()}
    timm = {prefix + key: tensor for key, tensor in as_in_timm(drawn('femto')).items()}
    assert f'{prefix}head.pre_logits.fc.weight' in timm and f'{prefix}stages.1.downsample.conv.weight' in timm
    ours = from_official({**official, **others})
    assert_same(from_official({**timm, **others}), ours)
    assert_same(from_official(ours), ours)
    assert_same(to_official(ours), {**official, **others})
    for key, theirs in {
        'classifier.norm.weight': 'norm.weight',
        'classifier.head.norm.bias': 'head.norm.bias',
        'stem.norm2.weight': 'downsample_layers.0.norm2.weight',
        'stages.3.downsample.conv.weight': 'downsample_layers.3.conv.weight',
        'stages.2.blocks.8.fc2.bias': 'stages.2.8.fc2.bias',
    }.items():
        assert torch.equal(ours[prefix + key], official[prefix + theirs]), key


@pytest.mark.parametrize(
    'wrap',
    [dict, lambda state: {'state_dict': state}, lambda state: {'model': state, 'epoch': 3}],
    ids=['bare', 'state_dict', 'model'],
)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_published_classifier(layout: str, wrap: type, tmp_path: Path) -> None:
    """The authors' releases are bare state dicts; their training script and others wrap them."""
    torch.save(wrap(LAYOUTS[layout](drawn('femto'))), tmp_path / 'mambaout_femto.pth')
    model = MambaOut('femto', init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'mambaout_femto.pth')})
    model.init_weights()
    expected = from_official(drawn('femto'))
    for key, tensor in model.state_dict().items():
        fresh = torch.ones_like(tensor) if key.endswith('weight') else torch.zeros_like(tensor)
        assert torch.equal(tensor, expected.get(key, fresh)), key
    report = load_backbone(model, tmp_path / 'mambaout_femto.pth', expected_missing=MambaOut.expected_missing)
    assert set(report.left_out) == CLASSIFIER and set(report.left_out.values()) == {'classifier'}
    assert set(report.new) == OUTNORMS
    assert report.matched == report.total == len(model.state_dict()) - 8
    assert str(report).startswith('mambaout_femto.pth: 164 of 164 backbone tensors matched; left out: classifier.')


def test_a_classifier_is_no_dense_model(tmp_path: Path) -> None:
    torch.save(drawn('femto'), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'8 missing in the file: outnorm0\.weight'):
        load_backbone(MambaOut('femto'), tmp_path / 'a.pth')


def test_whole_model(tmp_path: Path) -> None:
    """What our own training writes goes into the whole model, and into a backbone with fewer outputs."""
    model = torch.nn.Module()
    model.backbone = MambaOut('femto')
    model.decode_head = torch.nn.Conv2d(4, 2, 1)
    state = {key: torch.rand_like(tensor) for key, tensor in model.state_dict().items()}
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'a.pth')
    report = load_model(model, {'state_dict': dict(state)}, 'a.pth')
    assert report.matched == report.total == len(state)
    assert_same(model.state_dict(), state)
    report = load_backbone(MambaOut('femto', out_indices=(1, 3)), tmp_path / 'a.pth')
    assert {key for key, why in report.left_out.items() if why == 'the model has no such output'} == {
        f'outnorm{i}.{leaf}' for i in (0, 2) for leaf in ('weight', 'bias')
    }


def test_conversion_of_files(tmp_path: Path) -> None:
    torch.save(as_in_timm(drawn('femto')), tmp_path / 'timm.pth')
    said = convert(tmp_path / 'timm.pth', tmp_path / 'ours.pth')
    assert '172 tensors (MambaOut, layout: ours)' in said
    convert(tmp_path / 'ours.pth', tmp_path / 'official.pth', to='official')
    assert_same(torch.load(tmp_path / 'official.pth', weights_only=True)['model'], drawn('femto'))


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (
            'kobe',
            r"a\.pth holds a MambaOut of arch 'femto' \(48-96-192-288 wide, depths 3-3-9-3\), the model is a MambaOut "
            r"of arch 'kobe' .*; 48 missing in the file: stages\.2\.blocks\.9\.norm\.weight",
        ),
        ('tiny', r"arch 'femto'.*arch 'tiny'.*of other shape: stem\.conv1\.weight \(24, 3, 3, 3\) for \(48, 3, 3, 3\)"),
        (
            {'embed_dims': (48, 96), 'depths': (3, 3)},
            r'the model is a MambaOut \(48-96 wide, depths 3-3\); .*unknown to',
        ),
    ],
)
def test_another_variant(model: str | dict, message: str, tmp_path: Path) -> None:
    torch.save(drawn('femto'), tmp_path / 'a.pth')
    backbone = MambaOut(model, out_indices=(0, 1))
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(RuntimeError, match=message):
        load_backbone(backbone, tmp_path / 'a.pth', expected_missing=MambaOut.expected_missing)
    assert_same(backbone.state_dict(), before)


def test_the_other_architectures_of_timm(tmp_path: Path) -> None:
    """timm's ``*_rw`` models have a scale per channel behind each block and no norm inside the stem."""
    state = {key: tensor for key, tensor in as_in_timm(drawn('femto')).items() if not key.startswith('stem.norm1')}
    state |= {f'stages.0.blocks.{i}.ls.gamma': torch.ones(48) for i in range(3)}
    torch.save(state, tmp_path / 'mambaout_femto_rw.pth')
    with pytest.raises(
        RuntimeError, match=r'missing in the file: stem\.norm1\.weight.*unknown to the model: .*ls\.gamma'
    ):
        load_backbone(MambaOut('femto'), tmp_path / 'mambaout_femto_rw.pth', expected_missing=MambaOut.expected_missing)


def test_another_family(tmp_path: Path) -> None:
    vim = Vim({'embed_dims': 32, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    small = MambaOut({'embed_dims': (16, 24), 'depths': (1, 1)}, out_indices=1)
    torch.save(small.state_dict(), tmp_path / 'mambaout.pth')
    with pytest.raises(RuntimeError, match=r'vim\.pth holds Vim, the model is MambaOut'):
        load_backbone(small, tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match=r'mambaout\.pth holds MambaOut, the model is Vim'):
        load_backbone(vim, tmp_path / 'mambaout.pth')
    load_backbone(small, tmp_path / 'mambaout.pth')
