"""PlainMamba's published layout to ours and back, and backbones filled from files as they were published."""

from pathlib import Path

import pytest
import torch
from official_plainmamba import VARIANTS, adapter_shapes, backbone_shapes, classifier_shapes, dense_shapes
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.checkpoints.layouts.plainmamba import describe
from mmvim.models import ImageClassifier, PlainMamba, PlainMambaAdapter, Vim

SMALL = {'embed_dims': 24, 'depth': 4, 'd_state': 4}


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    counters = {key: torch.tensor(7) for key in shapes if key.endswith('num_batches_tracked')}
    return {key: counters.get(key, torch.rand(shape, generator=generator)) for key, shape in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def official(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return from_official({key: torch.empty(shape, device='meta') for key, shape in shapes.items()})


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


@pytest.mark.parametrize('arch', VARIANTS)
def test_expected_keys(arch: str) -> None:
    """Of classifiers, segmentors and detectors: every tensor has its place, and no other is left."""
    _, parameters, taps = VARIANTS[arch]
    with torch.device('meta'):
        plain, dense, adapter = PlainMamba(arch), PlainMamba(arch, out_indices=taps), PlainMambaAdapter(arch)
    assert sum(p.numel() for p in plain.parameters()) == parameters
    for model, shapes in ((plain, backbone_shapes), (dense, dense_shapes), (adapter, adapter_shapes)):
        assert shapes_of(official(shapes(arch))) == shapes_of(model.state_dict())
    described = [describe(official(shapes(arch)), PlainMamba.arch_zoo) for shapes in (backbone_shapes, adapter_shapes)]
    size = f'PlainMamba-{arch.upper()} ({plain.embed_dims} wide, {plain.depth} deep'
    assert described == [f'{size})', f'{size}, with its adapter)']


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'model.backbone.'])
def test_round_trip(prefix: str) -> None:
    state = {prefix + key: tensor for key, tensor in drawn({**dense_shapes('l1'), **adapter_shapes('l1')}).items()}
    others = {'neck.lateral_convs.0.bn.weight': torch.ones(2), 'rpn_head.rpn_cls.bias': torch.ones(1)} if prefix else {}
    ours = from_official({**state, **others})
    assert_same(from_official(ours), ours)
    assert_same(to_official(ours), {**state, **others})
    for key, theirs in {
        'layers.3.mamba.A_logs': 'layers.3.mamba.A_log',
        'layers.3.mamba.x_proj_weight': 'layers.3.mamba.x_proj.weight',
        'layers.3.mamba.dt_projs_bias': 'layers.3.mamba.dt_proj.bias',
    }.items():
        assert torch.equal(ours[prefix + key][0], state[prefix + theirs]), key
    assert torch.equal(ours[f'{prefix}norm_f.bias'], state[f'{prefix}ln1.bias'])
    assert torch.equal(ours[f'{prefix}outnorm17.bias'], state[f'{prefix}norm_layer17.bias'])


@pytest.mark.parametrize('wrapper', ['', 'module.', 'module.module.'])
def test_published_classifier(wrapper: str, tmp_path: Path) -> None:
    """In a dense backbone; its norms of outputs but the last are new, the position embedding is resized."""
    file, state = tmp_path / 'l1.pth', drawn(classifier_shapes('l1'))
    torch.save({'state_dict': {wrapper + key: tensor for key, tensor in state.items()}, 'meta': {}}, file)
    model = PlainMamba('l1', pretrain_img_size=(224, 256), out_indices=VARIANTS['l1'][2])
    report = load_backbone(model, file, expected_missing=PlainMamba.expected_missing)
    assert set(report.new) == {f'outnorm{i}.{leaf}' for i in (5, 11, 17) for leaf in ('weight', 'bias')}
    assert set(report.left_out) == {'head.fc.weight', 'head.fc.bias'}
    assert 'position embedding 14 x 14 resized to 14 x 16' in report.done
    expected = from_official({key.removeprefix('backbone.'): tensor for key, tensor in state.items()})
    assert all(torch.equal(x, expected[k]) for k, x in model.state_dict().items() if k in expected and k != 'pos_embed')


def test_a_classifier_in_the_adapter(tmp_path: Path) -> None:
    torch.save({'state_dict': drawn(classifier_shapes('l1'))}, tmp_path / 'l1.pth')
    adapter = PlainMambaAdapter('l1', init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'l1.pth')})
    gamma = adapter.interactions[0].injector.gamma.detach().clone()
    adapter.init_weights()
    assert torch.equal(adapter.interactions[0].injector.gamma, gamma)
    assert torch.equal(adapter.layers[23].mamba.Ds[0], drawn(classifier_shapes('l1'))['backbone.layers.23.mamba.D'])


def test_a_detector_in_a_plain_backbone(tmp_path: Path) -> None:
    torch.save(PlainMambaAdapter(SMALL).state_dict(), tmp_path / 'a.pth')
    report = load_backbone(PlainMamba(SMALL, out_norm=False), tmp_path / 'a.pth')
    assert set(report.left_out.values()) == {'the model has no adapter'}
    with pytest.raises(RuntimeError, match=r'missing in the file: norm_f\.weight'):
        load_backbone(PlainMamba(SMALL), tmp_path / 'a.pth')


def test_averages_of_mmcv() -> None:
    """The hook of mmcv 1 keeps them beside the weights, under names without dots."""
    backbone = {'type': 'mmvim.PlainMamba', 'arch': SMALL}
    classifier = ImageClassifier(backbone, {'type': 'mmvim.LinearHead', 'in_channels': 24, 'num_classes': 3})
    state = to_official(classifier.state_dict())
    averages = {'ema_' + key.replace('.', '_'): torch.zeros_like(tensor) for key, tensor in state.items()}
    report = load_model(classifier, {'state_dict': {**state, **averages}}, 'l2.pth')
    assert report.matched == report.total == len(state)
    assert any(f'{len(averages)} averages of the weights' in said for said in report.done)
    with pytest.raises(RuntimeError, match='1 unknown to the model: ema_backbone'):
        load_model(classifier, {'state_dict': {**state, 'ema_backbone_other': torch.zeros(1)}}, 'l2.pth')


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        ('l2', r'a\.pth holds PlainMamba-L1 \(192 wide, 24 deep\), the model is PlainMamba-L2 .*of other shape'),
        (
            {**SMALL, 'embed_dims': 192},
            r'holds PlainMamba-L1 .*the model is a PlainMamba \(192 wide, 4 deep\).*unknown to',
        ),
    ],
)
def test_another_variant(arch: str | dict, message: str, tmp_path: Path) -> None:
    torch.save(drawn(backbone_shapes('l1')), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=message):
        load_backbone(PlainMamba(arch), tmp_path / 'a.pth')


def test_another_family(tmp_path: Path) -> None:
    vim = Vim({'embed_dims': 24, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    torch.save(PlainMamba(SMALL).state_dict(), tmp_path / 'plainmamba.pth')
    with pytest.raises(RuntimeError, match=r'vim\.pth holds Vim, the model is PlainMamba'):
        load_backbone(PlainMamba(SMALL), tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match=r'plainmamba\.pth holds PlainMamba, the model is Vim'):
        load_backbone(vim, tmp_path / 'plainmamba.pth')
