"""Learning-rate scales and weight decays that parameters get."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from mmvim import models
from mmvim.engine import LayerDecayOptimWrapperConstructor, group_table
from mmvim.registry import OPTIM_WRAPPER_CONSTRUCTORS

DEPTH = 3
ARCH = {'embed_dims': 16, 'depth': DEPTH, 'patch_size': 8, 'patch_stride': 8}
WRAPPER = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.5}}


class Segmentor(nn.Module):
    """A Vim under something with a norm and a bias."""

    def __init__(self, **backbone: object) -> None:
        super().__init__()
        self.backbone = models.backbones.Vim(arch=ARCH, pretrain_img_size=16, **backbone)
        self.head = nn.Sequential(nn.Conv2d(16, 4, 1), nn.GroupNorm(2, 4))


def settings(model: nn.Module, **paramwise: object) -> dict[str, tuple[float, float]]:
    """(lr scale, weight decay) of each parameter."""
    wrapper = LayerDecayOptimWrapperConstructor(WRAPPER, paramwise)(model)
    found = {}
    for group in wrapper.optimizer.param_groups:
        assert group['lr'] == group['lr_scale']
        assert len(group['params']) == len(group['param_names'])
        found.update(dict.fromkeys(group['param_names'], (group['lr_scale'], group['weight_decay'])))
    return found


@pytest.fixture
def model() -> Segmentor:
    return Segmentor()


def test_the_learning_rate_shrinks_towards_the_input(model):
    found = settings(model, layer_decay_rate=0.5)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    for name in ('patch_embed.proj.weight', 'pos_embed'):
        assert found[f'backbone.{name}'][0] == 0.5 ** (DEPTH + 1)
    for layer in range(DEPTH):
        names = [name for name in found if name.startswith(f'backbone.layers.{layer}.')]
        assert {found[name][0] for name in names} == {0.5 ** (DEPTH - layer)}
        assert len(names) == len(list(model.backbone.layers[layer].parameters()))
    assert found['head.0.weight'][0] == 1.0


def test_what_is_not_a_matrix_is_not_decayed(model):
    model.backbone.layers[0].extra_bias = nn.Parameter(torch.zeros(2, 4))
    model.head.scale = nn.Parameter(torch.zeros(()))
    decayed = {name for name, (_, decay) in settings(model, layer_decay_rate=0.9).items() if decay}
    weights = ('in_proj.weight', 'conv1d_weight', 'x_proj_weight', 'dt_projs_weight', 'out_proj.weight')
    in_blocks = {f'backbone.layers.{layer}.mixer.{name}' for layer in range(DEPTH) for name in weights}
    assert decayed == {'backbone.patch_embed.proj.weight', 'head.0.weight'} | in_blocks


def test_custom_keys_override_marks_and_the_longest_one_wins(model):
    found = settings(
        model,
        layer_decay_rate=0.5,
        custom_keys={
            'A_logs': {'decay_mult': 1.0},
            'layers.1': {'lr_mult': 0.1},
            'layers.1.mixer.Ds': {'decay_mult': 0.5},
        },
    )
    assert found['backbone.layers.0.mixer.A_logs'] == (0.5**DEPTH, 0.5)
    assert found['backbone.layers.1.mixer.A_logs'] == (0.1 * 0.5 ** (DEPTH - 1), 0.0)  # the longer key says nothing
    assert found['backbone.layers.1.mixer.in_proj.weight'] == (0.1 * 0.5 ** (DEPTH - 1), 0.5)
    assert found['backbone.layers.1.mixer.Ds'] == (0.5 ** (DEPTH - 1), 0.25)


def test_the_decay_of_norms_biases_and_flat_tensors_can_be_set(model):
    model.head.scale = nn.Parameter(torch.zeros(4))
    found = settings(model, norm_decay_mult=0.2, bias_decay_mult=0.4, flat_decay_mult=0.6)
    assert found['head.1.weight'][1] == found['head.1.bias'][1] == 0.1
    assert found['backbone.layers.0.norm.weight'][1] == 0.1
    assert found['head.0.bias'][1] == 0.2
    assert found['head.scale'][1] == 0.3
    assert found['backbone.layers.0.mixer.A_logs'][1] == 0.0


def test_vims_published_segmentation_recipe_scales_the_embeddings_alone(model):
    found = settings(model, layer_decay_rate=0.5, only_embeddings=True)
    small = {name for name, (scale, _) in found.items() if scale != 1.0}
    assert small == {'backbone.patch_embed.proj.weight', 'backbone.patch_embed.proj.bias', 'backbone.pos_embed'}
    assert found['backbone.pos_embed'][0] == 0.5 ** (DEPTH + 1)


def test_the_table_names_the_groups_and_leaves_no_tensor_out(model):
    wrapper = LayerDecayOptimWrapperConstructor(WRAPPER, {'layer_decay_rate': 0.5})(model)
    table = group_table(wrapper)
    assert table == group_table(wrapper.optimizer)
    assert [row.name for row in table][:3] == ['layer_0_no_decay', 'layer_0_decay', 'layer_1_no_decay']
    assert table[0][1:] == (0.5**4, 0.0, 2)
    assert len({row.name for row in table}) == len(table) == 2 * (DEPTH + 2)
    assert sum(row.tensors for row in table) == len(list(model.parameters()))
    assert str(table[1]).split() == ['layer_0_decay', 'lr', 'x', '0.0625', 'weight', 'decay', '0.5', '1']


def test_without_layer_decay_any_model_gets_two_groups(model):
    for any_model in (model, nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))):
        table = group_table(LayerDecayOptimWrapperConstructor(WRAPPER)(any_model))
        assert [row.name for row in table] == ['no_decay', 'decay']
        assert {row.lr_scale for row in table} == {1.0}


def test_groups_of_different_rates_in_a_layer_have_different_names(model):
    names = [row.name for row in group_table(
        LayerDecayOptimWrapperConstructor(WRAPPER, {'custom_keys': {'head': {'lr_mult': 10}}})(model)
    )]  # fmt: skip
    assert names == ['no_decay_lr_x1', 'decay_lr_x1', 'no_decay_lr_x10', 'decay_lr_x10']


def test_frozen_and_shared_parameters():
    model = Segmentor(frozen_stages=1)
    model.twin = model.head
    found = settings(model, layer_decay_rate=0.5)
    assert not [name for name in found if name.startswith(('backbone.patch_embed', 'backbone.layers.0.', 'twin'))]
    assert 'head.0.weight' in found and 'backbone.layers.1.norm.weight' in found


def test_backbones_are_found_inside_wrappers_and_other_models(model):
    teacher_and_student = nn.ModuleDict({'teacher': copy.deepcopy(model).requires_grad_(False), 'student': model})
    found = settings(teacher_and_student, layer_decay_rate=0.5)
    assert all(name.startswith('student.') for name in found)
    assert found['student.backbone.pos_embed'][0] == 0.5 ** (DEPTH + 1)
    assert found['student.head.0.weight'][0] == 1.0

    from mmengine.model import MMDistributedDataParallel

    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()
    assert settings(wrapped, layer_decay_rate=0.5) == settings(model, layer_decay_rate=0.5)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmengine'])
def test_configs_of_every_scope_build_it(model, scope):
    with DefaultScope.overwrite_default_scope(scope):
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            ConfigDict(
                type='mmvim.LayerDecayOptimWrapperConstructor',
                optim_wrapper_cfg=ConfigDict(WRAPPER, clip_grad={'max_norm': 1.0}),
                paramwise_cfg=ConfigDict(layer_decay_rate=0.5, custom_keys={'Ds': {'decay_mult': 1.0}}),
            )
        )
        wrapper = constructor(model)
    assert wrapper.clip_grad_kwargs == {'max_norm': 1.0}
    assert wrapper.optimizer.defaults['weight_decay'] == 0.5


def test_a_state_dict_goes_round_and_the_step_uses_the_scales(model):
    first, second = (LayerDecayOptimWrapperConstructor(WRAPPER, {'layer_decay_rate': 0.5})(model) for _ in range(2))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first.step()
    for name, scale in (('head.1.bias', 1.0), ('backbone.pos_embed', 0.5**4), ('backbone.layers.2.mixer.Ds', 0.5)):
        torch.testing.assert_close(before[name] - model.get_parameter(name), torch.full_like(before[name], scale))
    second.load_state_dict(first.state_dict())
    assert group_table(first) == group_table(second)


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [
        ({'decay_rate': 0.9, 'decay_type': 'layer_wise', 'num_layers': 12}, 'unknown decay_rate, decay_type, num_lay'),
        ({'custom_keys': {'norm': {'decay_mul': 0.0}}}, r"custom_keys\['norm'\]: unknown decay_mul; .*decay_mult"),
    ],
)
def test_unknown_keys_are_refused(paramwise, message):
    with pytest.raises(ValueError, match=message):
        LayerDecayOptimWrapperConstructor(WRAPPER, paramwise)


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match='learning rate'):
        LayerDecayOptimWrapperConstructor({'type': 'OptimWrapper'})
    with pytest.raises(TypeError, match='paramwise_cfg: expected a dict, got list'):
        LayerDecayOptimWrapperConstructor(WRAPPER, [0.5])
    model = nn.Module()
    model.backbone = nn.Conv2d(3, 3, 1)
    with pytest.raises(NotImplementedError, match=r'get_layer_depth\(param_name, prefix\), which Conv2d has not'):
        settings(model, layer_decay_rate=0.5)
