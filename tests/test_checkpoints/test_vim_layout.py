"""Official Vim layouts to ours and back."""

import pytest
import torch
from official import official_shapes, official_state
from torch import Tensor

from mmvim.checkpoints import from_official, to_official
from mmvim.checkpoints.layouts.vim import describe
from mmvim.models import Vim

VARIANTS = ['tiny', 'small', 'base', 'tiny_plus', 'small_plus']
WIDTHS = {'tiny': 192, 'small': 384, 'base': 768, 'tiny_plus': 192, 'small_plus': 384}


def our_shapes(width: int, rows: int) -> dict[str, tuple[int, ...]]:
    """What the classifier of a published file has in our layout, written from the naming rules."""
    inner, rank, states = 2 * width, width // 16, 16
    shapes = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, rows, width),
        'patch_embed.proj.weight': (width, 3, 16, 16),
        'patch_embed.proj.bias': (width,),
        'norm_f.weight': (width,),
        'head.weight': (1000, width),
        'head.bias': (1000,),
    }
    mixer = {
        'in_proj.weight': (2 * inner, width),
        'conv1d_weight': (2, inner, 4),
        'conv1d_bias': (2, inner),
        'x_proj_weight': (2, rank + 2 * states, inner),
        'dt_projs_weight': (2, inner, rank),
        'dt_projs_bias': (2, inner),
        'A_logs': (2, inner, states),
        'Ds': (2, inner),
        'out_proj.weight': (width, inner),
    }
    for i in range(24):
        shapes[f'layers.{i}.norm.weight'] = (width,)
        shapes.update({f'layers.{i}.mixer.{name}': shape for name, shape in mixer.items()})
    return shapes


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor), key


@pytest.mark.parametrize('variant', VARIANTS)
def test_names_of_classifiers(variant: str) -> None:
    official = {key: torch.empty(shape, device='meta') for key, shape in official_shapes(f'{variant}_cls').items()}
    ours = from_official(official)
    expected = our_shapes(WIDTHS[variant], 730 if 'plus' in variant else 197)
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == expected
    assert {key: tensor.shape for key, tensor in to_official(ours).items()} == {k: v.shape for k, v in official.items()}


@pytest.mark.parametrize('variant', VARIANTS)
def test_values_of_classifiers(variant: str) -> None:
    official = official_state(f'{variant}_cls', depth=24 if variant == 'tiny' else 3)
    assert_same(to_official(from_official(official)), official)


@pytest.mark.parametrize('model', ['tiny_seg', 'small_seg', 'tiny_det'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_dense_models(model: str, prefix: str) -> None:
    official = {prefix + key: tensor for key, tensor in official_state(model, depth=12).items()}
    official['decode_head.conv_seg.weight'] = torch.ones(2)
    if not prefix:
        del official['decode_head.conv_seg.weight']
    ours = from_official(official)
    pyramid = 'simfp_' if model.endswith('det') else 'fpn'
    necks = [key for key in ours if key.startswith('neck.')]
    assert len(necks) == sum(key.removeprefix(prefix).startswith(pyramid) for key in official) > 0
    others = {key for key in ours if not key.startswith(('neck.', 'decode_head.'))}
    assert all(key.startswith(prefix) for key in others)
    assert f'{prefix}layers.11.mixer.conv1d_weight' in others
    assert not any('net.' in key for key in ours)
    assert_same(to_official(ours), official)


def test_order_of_directions() -> None:
    official = official_state('tiny_cls', depth=1)
    ours = from_official(official)
    block = 'layers.0.mixer.'
    assert torch.equal(ours[block + 'A_logs'][0], official[block + 'A_log'])
    assert torch.equal(ours[block + 'A_logs'][1], official[block + 'A_b_log'])
    assert torch.equal(ours[block + 'conv1d_weight'][1], official[block + 'conv1d_b.weight'][:, 0])


def test_ours_stays_as_it_is() -> None:
    ours = from_official(official_state('tiny_cls', depth=2))
    assert_same(from_official(ours), ours)


def test_mutation_of_the_result_leaves_the_source_alone() -> None:
    ours = from_official(official_state('tiny_cls', depth=1))
    before = ours['layers.0.mixer.Ds'].clone()
    to_official(ours)['layers.0.mixer.D'].zero_()
    assert torch.equal(ours['layers.0.mixer.Ds'], before)


@pytest.mark.parametrize('lost', ['A_log', 'D_b', 'conv1d.weight'])
def test_half_a_pair(lost: str) -> None:
    official = official_state('tiny_cls', depth=2)
    del official[f'layers.1.mixer.{lost}']
    with pytest.raises(ValueError, match=rf'layers\.1\.mixer.*partner layers\.1\.mixer\.{lost}'):
        from_official(official)


def test_directions_of_other_shape() -> None:
    official = official_state('tiny_cls', depth=1)
    official['layers.0.mixer.D_b'] = torch.zeros(3)
    with pytest.raises(ValueError, match=r'D \(384,\) and layers\.0\.mixer\.D_b \(3,\) must agree'):
        from_official(official)


def test_no_official_layout_for_other_models() -> None:
    with pytest.raises(ValueError, match='no official layout for ResNet'):
        to_official({'layer1.0.conv1.weight': torch.zeros(1)})


@pytest.mark.parametrize(
    ('variant', 'name'),
    [('tiny', 'Vim-Tiny (192 wide, 24 deep'), ('base', 'Vim-Base (768 wide'), ('small_plus', 'Vim-Small+ (384 wide')],
)
def test_describe(variant: str, name: str) -> None:
    state = {key: torch.empty(shape, device='meta') for key, shape in official_shapes(f'{variant}_cls').items()}
    assert describe(state, Vim.arch_zoo).startswith(name)
