"""Vim gives the numbers of the official code: weights drawn by name, outputs and gradients stored."""

import json
from pathlib import Path

import pytest
import torch
from fill import filled_state_dict, image
from golden import Golden

from mmvim.checkpoints.layouts.vim import from_official
from mmvim.models import DeconvPyramid, SimplePyramid, Vim

SHAPES = Path(__file__).parents[1] / 'data' / 'vim'
OUTPUT, GRADIENT = 5e-5, 2e-4  # of the largest value


def official_weights(model: str, rows: int, depth: int = 24) -> dict[str, torch.Tensor]:
    """Filled official state dict of ``tests/data/vim/<model>``, its position embedding with ``rows`` rows."""
    shapes = json.loads((SHAPES / f'{model}.shapes.json').read_text())
    for name in list(shapes):
        if name.endswith('pos_embed'):
            shapes[name][1] = rows
        layer = name.split('layers.')[-1].split('.')[0]
        # Rotary tables are computed, never loaded.
        if 'rope.' in name or (layer.isdigit() and int(layer) >= depth):
            del shapes[name]
    return filled_state_dict(shapes)


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor], prefix: str = '') -> None:
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    module.load_state_dict({name: value for name, value in own.items() if name in module.state_dict()})


def golden_image(golden: Golden) -> torch.Tensor:
    about = golden.info
    return image(about['batch'], about['height'], about['width'], about['seed']).requires_grad_()


@pytest.mark.parametrize(
    ('name', 'arch', 'model'),
    [
        ('vim_tiny_cls_depth4_224', {**Vim.arch_zoo['tiny'], 'depth': 4}, 'vim_tiny_cls'),
        ('vim_tiny_cls_192x256', 'tiny', 'vim_tiny_cls'),
        ('vim_tiny_cls_224', 'tiny', 'vim_tiny_cls'),
        ('vim_tiny_plus_cls_224', 'tiny_plus', 'vim_tiny_plus_cls'),
    ],
)
def test_classification(name, arch, model):
    golden = Golden(name)
    about = golden.info
    vim = Vim(arch, pretrain_img_size=(about['height'], about['width']), out_type='cls_token').eval()
    official = official_weights(model, vim.pos_embed.shape[1], vim.depth)
    load(vim, from_official(official))
    for block, layer in enumerate(vim.layers):
        if f'hidden_{block}' in golden.arrays:
            layer.register_forward_hook(
                lambda layer, args, branch, block=block: (
                    (
                        golden.assert_close(f'residual_{block}', args[0], OUTPUT),
                        golden.assert_close(f'hidden_{block}', branch, OUTPUT),
                    )[2:]
                    or None
                )
            )
    x = golden_image(golden)
    (feature,) = vim(x)
    golden.assert_close('cls_feature', feature, OUTPUT)
    logits = torch.nn.functional.linear(feature, official['head.weight'], official['head.bias'])
    golden.assert_close('logits', logits, OUTPUT)
    if 'grad_image' in golden.arrays:
        logits.square().sum().backward()
        golden.assert_close('grad_image', x.grad, GRADIENT)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('vim_tiny_seg_256', {'feature': 'branch'}),
        ('vim_tiny_seg_256_residual', {}),
        ('vim_tiny_seg_256_rope_residual', {'rope': True, 'rope_residual': True}),
    ],
)
def test_segmentation(name, options):
    golden = Golden(name)
    weights = from_official(official_weights('vim_tiny_seg', rows=16 * 16))
    vim = Vim('tiny', pretrain_img_size=256, out_indices=(5, 11, 17, 23), **options).eval()
    neck = DeconvPyramid(192, norm_cfg={'type': 'BN'}).eval()
    load(vim, weights)
    load(neck, weights, 'neck.')
    x = golden_image(golden)
    outs = neck(vim(x))
    for i, out in enumerate(outs):
        golden.assert_close(f'out{i}', out, OUTPUT)
    sum(out.square().sum() for out in outs).backward()
    golden.assert_close('grad_image', x.grad, GRADIENT)


@pytest.mark.parametrize('feature', ['branch', 'residual'])
def test_rectangular_input(feature):
    golden = Golden('vim_tiny_seg_192x256_ext')
    weights = from_official(official_weights('vim_tiny_seg', rows=14 * 14))
    vim = Vim('tiny', out_indices=(5, 11, 17, 23), feature=feature).eval()
    neck = DeconvPyramid(192, norm_cfg={'type': 'BN'}).eval()
    load(vim, weights)
    load(neck, weights, 'neck.')
    x = golden_image(golden)
    outs = neck(vim(x))
    for i, out in enumerate(outs):
        golden.assert_close(f'{feature}_out{i}', out, OUTPUT)
    if feature == 'residual':
        sum(out.square().sum() for out in outs).backward()
        golden.assert_close('grad_image', x.grad, GRADIENT)


def test_detection():
    golden = Golden('vim_tiny_det_256')
    weights = from_official(official_weights('vim_tiny_det', rows=16 * 16))
    vim = Vim('tiny', pretrain_img_size=256, rope=True, rope_residual=True).eval()
    neck = SimplePyramid(192).eval()
    load(vim, weights)
    load(neck, weights, 'neck.')
    x = golden_image(golden)
    maps = vim(x)
    golden.assert_close('last_feat', maps[0], OUTPUT)
    outs = neck(maps)
    for i, out in enumerate(outs):
        golden.assert_close(f'p{i + 2}', out, OUTPUT)
    sum(out.square().sum() for out in outs).backward()
    golden.assert_close('grad_image', x.grad, GRADIENT)
