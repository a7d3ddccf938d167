"""VMamba's published layouts to ours and back, and backbones filled from files as they were published."""

import pickle
from pathlib import Path

import pytest
import torch
from official_vmamba import CLASSIFIERS, classifier_shapes, dense_shapes
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.models import Vim, VMamba

OUTNORMS = {f'outnorm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')}
CLASSIFIER = {f'classifier.{part}.{leaf}' for part in ('norm', 'head') for leaf in ('weight', 'bias')}
LINEAR = ('in_proj.weight', 'out_proj.weight', 'fc1.weight', 'fc2.weight', 'reduction.weight')


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def empty(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that the first generation's files were written with."""
    pairs = [('patch_embed.0.', 'patch_embed.proj.'), ('patch_embed.2.', 'patch_embed.norm.')]
    pairs += [('.op.', '.self_attention.'), ('classifier.norm', 'norm'), ('classifier.head', 'head')]
    renamed = {}
    for key, tensor in state.items():
        for new, old in pairs:
            key = key.replace(new, old)
        renamed[key.replace('.norm.', '.ln_1.') if '.blocks.' in key else key] = tensor
    return renamed


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_expected_keys(arch: str) -> None:
    """A classifier lacks the norms of the outputs, and has its own norm and head; all else fits. Dense files fit."""
    with torch.device('meta'):
        own = shapes_of(VMamba(arch).state_dict())
    found = shapes_of(from_official(empty(classifier_shapes(arch))))
    assert own.keys() - found.keys() == OUTNORMS
    assert found.keys() - own.keys() == CLASSIFIER
    assert {key for key in own.keys() & found.keys() if own[key] != found[key]} == set()
    assert shapes_of(from_official(empty(dense_shapes(arch)))) == own


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_names_of_published_files_come_back(arch: str) -> None:
    official = empty(classifier_shapes(arch))
    assert shapes_of(to_official(from_official(official))) == shapes_of(official)


@pytest.mark.parametrize('arch', ['tiny_s1l8', 'v0_tiny'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_round_trip(arch: str, prefix: str) -> None:
    official = {prefix + key: tensor for key, tensor in drawn(dense_shapes(arch)).items()}
    if prefix:
        official |= {'neck.fpn_convs.0.conv.weight': torch.ones(2), 'bbox_head.norm.weight': torch.ones(1)}
    ours = from_official(official)
    assert_same(to_official(ours), official)
    assert_same(from_official(ours), ours)
    block = f'{prefix}layers.1.blocks.1.op.'
    rows = len(official[block + 'Ds']) // 4
    assert torch.equal(ours[block + 'A_logs'][1], official[block + 'A_logs'][rows : 2 * rows])
    assert torch.equal(ours[block + 'Ds'][3], official[block + 'Ds'][3 * rows :])
    last = (0, 2) if arch == 'v0_tiny' else (2, 7)
    last_norm = ours[f'{prefix}patch_embed.{last[0]}.norm.bias']
    assert torch.equal(last_norm, official[f'{prefix}patch_embed.{last[1]}.bias'])


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_older_names(prefix: str) -> None:
    official = drawn(classifier_shapes('v0_tiny'))
    old = older(official)
    assert {'patch_embed.proj.weight', 'norm.weight', 'head.bias', 'layers.1.blocks.0.ln_1.bias'} < old.keys()
    assert 'layers.0.downsample.norm.weight' in old and not any('.op.' in key for key in old)
    old = {prefix + key: tensor for key, tensor in old.items()}
    official = {prefix + key: tensor for key, tensor in official.items()}
    assert_same(from_official(old), from_official(official))
    assert_same(to_official(from_official(old)), official)


@pytest.mark.parametrize('arch', ['tiny_s1l8', 'v0_tiny'])
def test_per_pixel_linear_layers_as_convolutions(arch: str) -> None:
    official = drawn(classifier_shapes(arch))
    wide = {key: value[..., None, None] if key.endswith(LINEAR) else value for key, value in official.items()}
    assert sum(value.dim() == 4 for value in wide.values()) > sum(value.dim() == 4 for value in official.values()) + 25
    assert_same(from_official(wide), from_official(official))


def test_not_four_walks() -> None:
    with pytest.raises(ValueError, match=r'layers\.0\.blocks\.0\.op\.Ds has 6 rows, which are not those of 4 walks'):
        from_official({'layers.0.blocks.0.op.Ds': torch.ones(6), 'layers.0.blocks.0.op.A_logs': torch.ones(8, 1)})


class CfgNode(dict):
    """Pickles under the name of a class that is not installed."""

    def __reduce__(self) -> tuple:
        return CfgNode, (), {'_immutable': True}, None, iter(self.items())


CfgNode.__module__ = 'yacs.config'


def save_classifier(folder: Path, arch: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a published file with everything that upstream's training leaves in it."""
    import sys
    import types

    module = types.ModuleType('yacs.config')
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    state = drawn(classifier_shapes(arch))
    path = folder / CLASSIFIERS[arch]
    config = CfgNode(MODEL=CfgNode(NAME=arch), TAG='x')
    content = {'model': older(state) if arch.startswith('v0') else state, 'epoch': 264, 'config': config}
    torch.save({**content, 'optimizer': {'state': {}, 'param_groups': []}}, path)
    monkeypatch.delitem(sys.modules, 'yacs.config')
    monkeypatch.delitem(sys.modules, 'yacs')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    return path


@pytest.mark.parametrize('arch', ['tiny_s1l8', 'v0_tiny'])
def test_published_classifier(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_classifier(tmp_path, arch, monkeypatch)
    model = VMamba(arch, init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    model.init_weights()
    expected = from_official(drawn(classifier_shapes(arch)))
    for key, tensor in model.state_dict().items():
        fresh = torch.ones_like(tensor) if key.endswith('weight') else torch.zeros_like(tensor)
        assert torch.equal(tensor, expected.get(key, fresh)), key
    report = load_backbone(model, path, expected_missing=VMamba.expected_missing)
    assert set(report.left_out) == CLASSIFIER and set(report.left_out.values()) == {'classifier'}
    assert set(report.new) == OUTNORMS
    assert report.matched == report.total == len(model.state_dict()) - 8


def test_a_classifier_is_no_dense_model(tmp_path: Path) -> None:
    torch.save({'model': drawn(classifier_shapes('tiny_s1l8'))}, tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'8 missing in the file: outnorm0\.weight'):
        load_backbone(VMamba('tiny'), tmp_path / 'a.pth')


@pytest.mark.parametrize('arch', ['tiny_s1l8', 'v0_tiny'])
def test_published_dense_file(arch: str, tmp_path: Path) -> None:
    """As mmengine writes the whole model; a backbone with fewer outputs leaves the other norms out."""
    official = drawn(dense_shapes(arch))
    whole = {f'backbone.{key}': tensor for key, tensor in official.items()}
    whole['decode_head.conv_seg.bias'] = torch.ones(2)
    torch.save({'state_dict': whole, 'meta': {'epoch': 12}}, tmp_path / 'a.pth')
    model = VMamba(arch)
    report = load_backbone(model, tmp_path / 'a.pth')
    assert report.left_out == {'decode_head.conv_seg.bias': 'not of the backbone'} and not report.new
    assert_same(model.state_dict(), from_official(official))
    report = load_backbone(VMamba(arch, out_indices=(1, 3)), tmp_path / 'a.pth')
    assert {key for key in report.left_out if not key.startswith('decode')} == {
        f'outnorm{i}.{leaf}' for i in (0, 2) for leaf in ('weight', 'bias')
    }


def test_whole_model() -> None:
    """``load_from`` takes an official segmentor or detector as it is."""
    model = torch.nn.Module()
    model.backbone = VMamba('tiny')
    model.decode_head = torch.nn.Conv2d(4, 2, 1)
    official = drawn(dense_shapes('tiny_s1l8'))
    state = {f'backbone.{key}': tensor for key, tensor in official.items()}
    state |= {'decode_head.weight': torch.ones(2, 4, 1, 1), 'decode_head.bias': torch.ones(2)}
    report = load_model(model, {'state_dict': state}, 'a.pth')
    assert report.matched == report.total == len(state)
    assert_same(model.backbone.state_dict(), from_official(official))


@pytest.mark.parametrize(
    ('file', 'model', 'message'),
    [
        (
            'v0_tiny',
            'tiny',
            r"a\.pth holds a VMamba of arch 'v0_tiny' \(96 wide, depths 2-2-9-2, scans 2 x as wide, gated, "
            r"16 states\), the model is a VMamba of arch 'tiny_s1l8' \(96 wide, depths 2-2-8-2, scans 1 x as wide, "
            r'1 state\); .*of other shape: .*missing in the file: .*unknown to the model: ',
        ),
        (
            'tiny_s1l8',
            'tiny_s2l5',
            r"holds a VMamba of arch 'tiny_s1l8'.*arch 'tiny_s2l5'.*x_proj_weight \(4, 8, 96\) for \(4, 8, 192\).*; "
            r'54 unknown to the model: layers\.2\.blocks\.5\.norm\.weight',
        ),
        (
            'tiny_s1l8',
            {'embed_dims': 96, 'depths': (2, 2, 9, 2)},
            r"arch 'tiny_s1l8'.*the model is a VMamba \(96 wide, depths 2-2-9-2.*18 missing in the file: "
            r'layers\.2\.blocks\.8\.norm\.weight',
        ),
    ],
)
def test_another_variant(file: str, model: str | dict, message: str, tmp_path: Path) -> None:
    torch.save({'model': drawn(classifier_shapes(file))}, tmp_path / 'a.pth')
    backbone = VMamba(model)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(RuntimeError, match=message):
        load_backbone(backbone, tmp_path / 'a.pth', expected_missing=VMamba.expected_missing)
    assert_same(backbone.state_dict(), before)


def test_another_family(tmp_path: Path) -> None:
    vim = Vim({'embed_dims': 32, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    small = VMamba({'embed_dims': 16, 'depths': (1, 1)}, out_indices=1)
    torch.save(small.state_dict(), tmp_path / 'vmamba.pth')
    with pytest.raises(RuntimeError, match=r'vim\.pth holds Vim, the model is VMamba'):
        load_backbone(small, tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match=r'vmamba\.pth holds VMamba, the model is Vim'):
        load_backbone(vim, tmp_path / 'vmamba.pth')
    load_backbone(small, tmp_path / 'vmamba.pth')


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_every_published_file_is_named(arch: str) -> None:
    from mmvim.checkpoints.layouts.vmamba import describe

    assert f'arch {arch!r} ' in describe(from_official(empty(classifier_shapes(arch))), VMamba.arch_zoo)
