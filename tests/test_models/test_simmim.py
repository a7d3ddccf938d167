"""SimMIM around every family: what is hidden stays hidden, and the loss asks for nothing else."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from test_models.test_matrix import BUILD, PATCHES, STAGES
from torch import Tensor, nn

from mmvim.checkpoints import load_backbone
from mmvim.checkpoints.convert import convert
from mmvim.models import PlainMambaAdapter, SimMIM
from mmvim.models.pretraining.masks import draw_masks, enlarge

VIM = {'type': 'mmvim.Vim', 'arch': PATCHES, 'pretrain_img_size': 64}
VMAMBA = {'type': 'mmvim.VMamba', 'arch': STAGES, 'out_indices': 3}
ADAPTER = {
    'type': PlainMambaAdapter,
    'arch': {'embed_dims': 24, 'depth': 4, 'd_state': 4, 'd_conv': 3, 'num_heads': 2},
    'out_indices': 3,
}


def of_matrix(build: Callable) -> dict:
    """The config of a backbone of the matrix with its last output alone."""
    last = -1 if hasattr(build.func, 'blocks_name') else 3
    return {'type': build.func, 'arch': build.args[0], 'out_indices': last, **build.keywords}


FAMILIES = {name: of_matrix(build) for name, build in BUILD.items()} | {'plainmamba with its adapter': ADAPTER}


def seeded(model: SimMIM, images: Tensor, mode: str = 'tensor') -> dict | tuple[Tensor, Tensor]:
    """A forward pass with the same masks every time."""
    torch.manual_seed(3)
    return model(images, mode=mode)


@pytest.mark.parametrize('name', FAMILIES)
def test_the_loss_and_its_gradients_see_hidden_pixels_only(name: str) -> None:
    torch.manual_seed(0)
    model = SimMIM(FAMILIES[name])
    images = torch.randn(2, 3, 70, 101)
    predicted, hidden = seeded(model, images)
    assert predicted.shape == images.shape and hidden.shape == (2, 70, 101)

    raw = []
    with model.decoder.register_forward_hook(lambda _, __, output: (output.retain_grad(), raw.append(output))[1]):
        loss = seeded(model, images, 'loss')['loss']
    loss.backward()
    hidden = hidden[:, None].expand_as(images)
    torch.testing.assert_close(loss, (predicted - images)[hidden].abs().mean())
    gradient = F.pixel_shuffle(raw[0].grad, model.map_stride)
    assert (gradient[:, :, :70, :101][hidden] != 0).all()
    assert not gradient[:, :, :70, :101][~hidden].any()
    assert not gradient[:, :, 70:].any() and not gradient[:, :, :, 101:].any()
    # What gets no gradient would stop several processes; the adapter has norms for outputs that are not asked for.
    unused = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    expected = {'ad_norm1', 'ad_norm2', 'ad_norm3', 'spm', 'up'} if 'adapter' in name else set()
    assert {key.split('.')[1] for key in unused} == expected
    assert model.mask_token.grad.any()


@pytest.mark.parametrize('name', FAMILIES)
def test_no_prediction_depends_on_hidden_pixels(name: str) -> None:
    torch.manual_seed(0)
    model = SimMIM(FAMILIES[name])
    images = torch.randn(2, 3, 96, 64)
    predicted, hidden = seeded(model, images)
    others = torch.where(hidden[:, None], torch.randn_like(images), images)
    assert torch.equal(seeded(model, others)[0], predicted)
    others = torch.where(hidden[:, None], images, torch.randn_like(images))
    assert not torch.equal(seeded(model, others)[0], predicted)
    with torch.no_grad():
        model.mask_token += 1
    assert not torch.equal(seeded(model, images)[0], predicted)


@pytest.mark.parametrize('backbone', [VIM, VMAMBA], ids=['plain', 'staged'])
def test_hidden_tokens_are_the_mask_token_and_no_others(backbone: dict) -> None:
    torch.manual_seed(0)
    model = SimMIM(backbone)
    images = torch.randn(2, 3, 64, 96)
    embedding, dims, stride = model.backbone.embedding()
    _, hidden = seeded(model, images)
    shown = images.masked_fill(hidden[:, None], 0)
    with torch.no_grad():
        before = embedding(shown if stride > 4 else shown.permute(0, 2, 3, 1))
        after = model._hide(hidden[:, ::32, ::32], embedding, (), before)
    before, after = (
        (x[0] if isinstance(x, tuple) else x).reshape(2, 64 // stride, 96 // stride, dims) for x in (before, after)
    )
    places = hidden[:, ::stride, ::stride]
    assert torch.equal(after[places], model.mask_token.expand(int(places.sum()), -1))
    assert torch.equal(after[~places], before[~places])


def test_masks() -> None:
    torch.manual_seed(0)
    masks = draw_masks(50, 97, 128, 32, 0.6, torch.device('cpu'))
    assert masks.shape == (50, 4, 4) and masks.dtype is torch.bool
    assert (masks.sum((1, 2)) == 10).all()  # 9.6, rounded up
    assert (masks.sum(0) > 15).all() and (masks.sum(0) < 45).all()  # anywhere
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 50
    large = enlarge(masks, 32, 97, 128)
    assert large.shape == (50, 97, 128)
    assert torch.equal(large[:, ::32, ::32], masks) and torch.equal(large[:, 31:96:32, 31::32], masks[:, :3])
    assert draw_masks(1, 32, 64, 32, 0.99, torch.device('cpu')).sum() == 1  # something is left to see


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'mask_ratio': 0.0}, r'mask_ratio=0\.0: expected a number between 0 and 1'),
        ({'mask_ratio': 1.0}, r'mask_ratio=1\.0: expected'),
        ({'mask_ratio': 60}, r'mask_ratio=60: expected'),
        ({'mask_patch_size': 48}, r'mask_patch_size=48: expected a multiple of 32'),
        ({'mask_patch_size': 0}, r'mask_patch_size=0: expected a multiple of 32'),
        ({'backbone': {**VMAMBA, 'out_indices': (2, 3)}}, r'one output, a map, got one with 2 maps'),
        ({'backbone': {**VIM, 'out_type': 'cls_token'}}, r'one output, a map, got one with 0 maps'),
        ({'backbone': {'type': nn.Identity}}, r'expected a backbone of mmvim'),
    ],
)
def test_what_does_not_fit(options: dict, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as caught:
        SimMIM(**{'backbone': VMAMBA, **options})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('size', [(31, 64), (64, 8), (32, 32)])
def test_images_without_squares(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f'images of {size[0]} x {size[1]} pixels: expected at least one mask patch'):
        SimMIM(VMAMBA)(torch.randn(1, 3, *size), mode='loss')


@pytest.mark.parametrize('backbone', [VIM, VMAMBA], ids=['plain', 'staged'])
def test_bfloat16(backbone: dict) -> None:
    torch.manual_seed(0)
    model, images = SimMIM(backbone), torch.randn(2, 3, 64, 64)
    exact = seeded(model, images, 'loss')['loss']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = seeded(model, images, 'loss')['loss']
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, exact, rtol=2e-2, atol=0)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize('backbone', [VIM, VMAMBA], ids=['plain', 'staged'])
def test_it_learns(backbone: dict) -> None:
    """Images of one colour each: the visible squares tell the hidden ones."""
    torch.manual_seed(0)
    model = SimMIM(backbone)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        loss = model(torch.randn(16, 3, 1, 1).expand(-1, -1, 64, 64), mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.85 * sum(losses[:20]), losses


# ------------------------------------------------------------------------------------------ its weights go on


def segmentor(backbone: dict) -> dict:
    """A segmentor of mmseg on four maps of a backbone."""
    channels = [32] * 4 if backbone['type'] == 'mmvim.Vim' else [16, 32, 64, 128]
    head = {'type': 'UPerHead', 'in_channels': channels, 'in_index': [0, 1, 2, 3], 'channels': 8, 'num_classes': 3}
    return {'type': 'EncoderDecoder', 'backbone': backbone, 'decode_head': head, 'test_cfg': {'mode': 'whole'}}


def detector(backbone: dict) -> dict:
    """A detector of mmdet on the last map of a backbone."""
    channels = 32 if backbone['type'] == 'mmvim.Vim' else 128
    head = {
        'type': 'FCOSHead', 'num_classes': 3, 'stacked_convs': 1, 'feat_channels': 8, 'norm_cfg': None,
        'strides': [32], 'regress_ranges': ((-1, 1e8),),
    }  # fmt: skip
    neck = {'type': 'FPN', 'in_channels': [channels], 'out_channels': 8, 'num_outs': 1}
    return {'type': 'FCOS', 'backbone': backbone, 'neck': neck, 'bbox_head': {**head, 'in_channels': 8}}


@pytest.mark.parametrize('build', [segmentor, detector])
@pytest.mark.parametrize('backbone', [{**VIM, 'final_norm': True}, VMAMBA], ids=['plain', 'staged'])
def test_the_weights_go_on_into_models(build: Callable, backbone: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretrained = SimMIM(backbone)
    file = tmp_path / 'epoch_100.pth'
    torch.save({'state_dict': pretrained.state_dict(), 'meta': {}}, file)
    theirs = {**backbone, 'init_cfg': {'type': 'Pretrained', 'checkpoint': str(file)}}
    theirs.pop('final_norm', None)
    if build is segmentor:
        theirs['out_indices'] = (0, 1, 2, 3)
    scope = {segmentor: 'mmseg', detector: 'mmdet'}[build]
    importlib.import_module(f'{scope}.models')
    with DefaultScope.overwrite_default_scope(scope):
        model = ROOT_MODELS.build(build(theirs))
        model.init_weights()
    ours, found = pretrained.backbone.state_dict(), model.backbone.state_dict()
    new = {f'outnorm{i}.{part}' for i in range(3) for part in ('weight', 'bias')}
    left = {'norm_f.weight'} if backbone['type'] == 'mmvim.Vim' else set()
    assert set(ours) - set(found) == left
    assert set(found) - set(ours) == (new if build is segmentor and not left else set())
    assert all(torch.equal(found[key], ours[key]) for key in set(found) & set(ours))
    report = load_backbone(model.backbone, file, expected_missing=model.backbone.expected_missing)
    decoder = ['mask_token', 'decoder.weight', 'decoder.bias']
    assert sorted(report.left_out) == sorted([*decoder, *left])
    line = str(report)
    assert '\n' not in line and all(name in line for name in ('mask_token', 'decoder'))


@pytest.mark.parametrize('backbone', [VIM, VMAMBA], ids=['plain', 'staged'])
def test_the_backbone_is_exported_alone(backbone: dict, tmp_path: Path) -> None:
    pretrained = SimMIM(backbone)
    torch.save({'state_dict': pretrained.state_dict()}, tmp_path / 'run.pth')
    convert(str(tmp_path / 'run.pth'), str(tmp_path / 'alone.pth'), 'ours', False, None, 'backbone')
    alone = torch.load(tmp_path / 'alone.pth', weights_only=True)['state_dict']
    ours = pretrained.backbone.state_dict()
    assert alone.keys() == ours.keys()
    assert all(torch.equal(alone[key], ours[key]) for key in ours)
