"""What timm asks of every model, for a small one of each family."""

from copy import deepcopy
from types import ModuleType

import pytest
import torch
from elsewhere import SMALL
from torch import Tensor, nn

from mmvim.models.layers import DropPath
from mmvim.registry import BACKBONES

NAMES = [f'small_{backbone.lower()}' for backbone in SMALL]
SIZE = (64, 96)
each = pytest.mark.parametrize('name', NAMES)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE)


def _is_finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def _full(timm: ModuleType, name: str) -> str:
    return next(full for full in timm.list_models('*', module='timm') if full.startswith(f'{name[6:]}_'))


@each
def test_scores(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name, num_classes=5).eval()
    scores = model(images)
    assert scores.shape == (2, 5) and _is_finite(scores)
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features), scores)
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features) == (2, model.head_hidden_size)
    assert torch.equal(model.get_classifier()(pooled), scores)
    assert torch.equal(deepcopy(model)(images), scores)


@each
def test_every_parameter_has_a_gradient(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name, num_classes=5).train()
    model(images).mean().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert all(_is_finite(parameter.grad) for parameter in model.parameters())


@each
def test_records_name_what_is_there(timm: ModuleType, name: str) -> None:
    known = timm.get_pretrained_cfg(_full(timm, name))
    model = timm.create_model(name).eval()
    state = model.state_dict()
    assert state[f'{known.classifier}.weight'].shape[0] == known.num_classes == model.num_classes
    assert state[f'{known.first_conv}.weight'].shape[1] == known.input_size[0] == model.in_chans
    assert known.url is None or known.url.startswith('https://')
    features = model.forward_features(torch.randn(1, *known.input_size))
    places = features[0, 0].numel() if features.dim() == 4 else features.shape[1] - model.num_prefix_tokens
    assert places == known.pool_size[0] * known.pool_size[1]


@each
def test_head_is_taken_off_and_put_on(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name, num_classes=5).eval()
    features = model.forward_features(images)
    pooled = model.forward_head(features, pre_logits=True)
    model.reset_classifier(0)
    assert torch.equal(model(images), pooled)
    model.reset_classifier(0, '')
    assert torch.equal(model(images), features)
    assert timm.create_model(name, num_classes=0, global_pool='')(images).shape == features.shape
    model.reset_classifier(7, 'avg')
    assert model(images).shape == (2, 7) and model.num_classes == 7


@each
def test_maps_are_those_of_the_backbone_in_a_config(timm: ModuleType, name: str, images: Tensor) -> None:
    backbone = next(backbone for backbone in SMALL if backbone.lower() == name[6:])
    zoo = next(iter(BACKBONES[backbone].arch_zoo.values()))
    for indices in ((0, 1, 2, 3), (1, 3), (-1,)):
        model = timm.create_model(name, features_only=True, out_indices=indices).eval()
        arch = {**zoo, **SMALL[backbone]}
        theirs = BACKBONES[backbone](arch, out_indices=sorted(i % 4 for i in indices), **model.variant.options).eval()
        assert not theirs.load_state_dict(model.backbone.state_dict(), strict=False).unexpected_keys
        assert all(torch.equal(a, b) for a, b in zip(model(images), theirs(images), strict=True))


@each
def test_maps_are_as_announced(timm: ModuleType, name: str, images: Tensor) -> None:
    for options, number in (({}, 4), ({'out_indices': 2}, 2), ({'out_indices': (-4, 2)}, 2)):
        model = timm.create_model(name, features_only=True, **options).train()
        maps = model(images)
        assert [x.shape[1] for x in maps] == model.feature_info.channels()
        assert [(SIZE[0] // r, SIZE[1] // r) for r in model.feature_info.reduction()] == [x.shape[2:] for x in maps]
        assert len(maps) == number and 'classifier' not in model.pretrained_cfg
        modules = dict(model.named_modules())
        assert all(module in modules for module in model.feature_info.module_name())
        sum(x.mean() for x in maps).backward()
        assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@each
def test_intermediates(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name).eval()
    final, maps = model.forward_intermediates(images)
    assert torch.equal(final, model.forward_features(images))
    assert [x.shape[1] for x in maps] == [output['num_chs'] for output in model.feature_info]
    assert [SIZE[0] // x.shape[2] for x in maps] == [output['reduction'] for output in model.feature_info]

    # Other forms of the same, fewer, and with what stands around them.
    for form, back in (('NHWC', lambda x: x.permute(0, 3, 1, 2)), ('NLC', lambda x: x.transpose(1, 2))):
        others = model.forward_intermediates(images, output_fmt=form, intermediates_only=True)
        assert all(torch.equal(back(b).flatten(2), a.flatten(2)) for a, b in zip(maps, others, strict=True))
    few = model.forward_intermediates(images, indices=[-1, 1], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(few, [maps[1], maps[3]], strict=True))
    assert len(model.forward_intermediates(images, indices=2, intermediates_only=True)) == 2

    # The norm of the last one is that of the features.
    (normed,) = model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
    if final.dim() == 3:
        final = final[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, normed.shape[2:])
    assert torch.equal(normed, final) and not torch.equal(normed, maps[3])

    pairs = model.forward_intermediates(images, return_prefix_tokens=True, intermediates_only=True)
    if model.num_prefix_tokens:
        assert all(token.shape == (2, 1, x.shape[1]) for x, token in pairs)
        pairs = [x for x, _ in pairs]
    assert all(torch.equal(a, b) for a, b in zip(pairs, maps, strict=True))


@each
def test_nothing_is_computed_behind_the_last_output_if_asked(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name).eval()
    seen = []
    last = model.get_submodule(model.feature_info[-1]['module'])
    last.register_forward_hook(lambda *_: seen.append(True))
    model.forward_intermediates(images, indices=[1], stop_early=True)
    model.forward_intermediates(images, indices=[1], intermediates_only=True)
    assert not seen
    model.forward_intermediates(images, indices=[1])
    assert seen


@each
def test_pruning(timm: ModuleType, name: str, images: Tensor) -> None:
    model = timm.create_model(name).eval()
    before = model.forward_intermediates(images, indices=[0, 2], intermediates_only=True)
    size = sum(parameter.numel() for parameter in model.parameters())
    assert model.prune_intermediate_layers([0, -2], prune_norm=True) == [0, 2]
    after = model.forward_intermediates(images, indices=[0, 2], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert sum(parameter.numel() for parameter in model.parameters()) < size
    assert model.num_classes == 0 and isinstance(model.norm, nn.Identity)
    model.train()(images).mean().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]

    whole = timm.create_model(name, num_classes=5).eval()
    scores = whole(images)
    whole.prune_intermediate_layers(4, prune_head=False)
    assert torch.equal(whole(images), scores)


@each
def test_checkpointing_changes_no_gradient(timm: ModuleType, name: str, images: Tensor) -> None:
    for options in ({}, {'features_only': True}):
        gradients = []
        model = timm.create_model(name, **options).train()
        calls = []
        blocks = [m for m in model.modules() if type(m).__name__.endswith('Block')]
        blocks[-1].register_forward_pre_hook(lambda *_, calls=calls: calls.append(True))
        for enable in (False, True):
            model.set_grad_checkpointing(enable)
            model.zero_grad()
            outs = model(images)
            sum(x.square().mean() for x in (outs if options else [outs])).backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))
        assert len(calls) == 3, 'forward, forward, and once more for the backward pass'


@each
def test_optimizer_groups(timm: ModuleType, name: str) -> None:
    from timm.optim import create_optimizer_v2

    model = timm.create_model(name, num_classes=5)
    optimizer = create_optimizer_v2(model, opt='adamw', lr=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    scales, decays = {}, {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            scales[names[id(parameter)]] = group['lr_scale']
            decays[names[id(parameter)]] = group['weight_decay']
    first = f'{timm.get_pretrained_cfg(_full(timm, name)).first_conv}.weight'
    depth, layers = model.backbone.get_layer_depth(first, 'backbone.')
    assert depth == 0 and scales['head.fc.weight'] == 1 and scales[first] == min(scales.values()) < 1
    assert len(set(scales.values())) == layers
    free = model.no_weight_decay()
    assert free and all(decays[key] == 0 for key in free)
    assert decays['head.fc.weight'] == 0.1
    coarse = {model.group_matcher(coarse=True)(key) for key in names.values()}
    assert coarse == set(range(len(coarse))) and len(coarse) <= layers


@each
def test_sizes_and_rates(timm: ModuleType, name: str) -> None:
    model = timm.create_model(name, img_size=(64, 32), drop_path_rate=0.25, in_chans=5, num_classes=2)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert max(rates) == 0.25
    assert model(torch.randn(1, 5, 64, 32)).shape == (1, 2)
    if hasattr(model.backbone, 'pos_embed'):
        assert model.backbone.pos_embed.shape[1] == 8 + model.num_prefix_tokens


@each
def test_other_sizes_of_image(timm: ModuleType, name: str) -> None:
    model = timm.create_model(name, features_only=True).eval()
    for size in ((64, 64), (72, 88), (33, 50)):
        assert all(_is_finite(x) for x in model(torch.randn(1, 3, *size)))


@each
def test_state_goes_to_the_disk_and_back(timm: ModuleType, name: str, images: Tensor, tmp_path) -> None:
    model = timm.create_model(name, num_classes=5).eval()
    torch.save(model.state_dict(), tmp_path / 'mine.pth')
    torch.manual_seed(1)
    again = timm.create_model(name, num_classes=5, checkpoint_path=tmp_path / 'mine.pth').eval()
    assert torch.equal(again(images), model(images))
