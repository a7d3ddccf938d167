"""Effective receptive fields: of models whose field is known, of real ones, and by the command."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.models import SwinTransformer
from mmdet.models.backbones.swin import swin_converter
from torch import Tensor, nn

from mmvim.analysis import erf, weights
from mmvim.analysis.deit import DeiT
from mmvim.analysis.erf import Field, area, receptive_field, rendered, smallest_square
from mmvim.analysis.models import build
from mmvim.analysis.swin import Swin
from mmvim.commands import run_tool
from tools.analysis.erf import main


class Box(nn.Module):
    """Adds up a square of ``side`` pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, side, padding=side // 2)
        nn.init.ones_(self.conv.weight)
        nn.init.constant_(self.conv.bias, 1e6)  # every channel is positive

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.conv(image),)


def test_field_of_a_convolution() -> None:
    """All 5 x 5 pixels count the same, the others nothing."""
    field = receptive_field(Box(5), rendered(2, 32))
    expected = np.zeros((32, 32))
    expected[14:19, 14:19] = 1 / 25
    np.testing.assert_allclose(field.values, expected, atol=1e-12)
    assert field.centre == (16, 16)
    assert area(field, 0.99) == pytest.approx(25 / 32**2)
    assert area(field, 9 / 25) == pytest.approx(9 / 32**2)
    assert smallest_square(field, 0.3) == (slice(15, 18), slice(15, 18))


@pytest.mark.parametrize(('at', 'place'), [((0, 0), (0, 0)), ((0.25, 0.5), (8, 16)), ((1, 1), (31, 31))])
def test_field_of_another_place(at: tuple[float, float], place: tuple[int, int]) -> None:
    values = receptive_field(Box(5), rendered(1, 32), at).values
    rows, columns = np.nonzero(values)
    assert (rows.min(), rows.max()) == (max(place[0] - 2, 0), min(place[0] + 2, 31))
    assert (columns.min(), columns.max()) == (max(place[1] - 2, 0), min(place[1] + 2, 31))


def test_square_is_cut_at_the_edge() -> None:
    values = np.zeros((10, 20))
    values[1, 3] = 1
    values[0, 9] = 0.1
    assert smallest_square(Field(values), 0.99) == (slice(0, 8), slice(0, 10))


def test_fields_of_our_models_have_their_shape() -> None:
    """A token of Vim with fresh weights sees its neighbours in the sequence, one of DeiT the whole image."""
    torch.manual_seed(0)
    images = list(rendered(1, 96))
    field = receptive_field(build('vim_tiny', 96), images)
    vim = field.values.reshape(6, 16, 6, 16).sum((1, 3))
    assert vim[3, 3] > 0.5
    assert vim[3, 2] + vim[3, 4] > 10 * (vim[2, 3] + vim[4, 3])
    assert area(field, 0.5) < 0.1 < 0.3 < area(receptive_field(build('deit_tiny', 96), images), 0.5)


def test_constant_output_is_an_error() -> None:
    class Nothing(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor]:
            return (0 * image,)

    with pytest.raises(ValueError, match='does not depend on the image'):
        receptive_field(Nothing(), rendered(1, 32))


def test_official_swin_weights(tmp_path: Path) -> None:
    """Ours, filled from a file in the official layout, computes what mmdet's, converted by mmdet, does."""
    torch.manual_seed(0)
    model = Swin(32, (1, 2))
    official = {'patch_embed.proj.weight': (32, 3, 4, 4), 'patch_embed.proj.bias': (32,)}
    official |= {f'patch_embed.norm.{kind}': (32,) for kind in ('weight', 'bias')}
    for stage, block, dims in ((0, 0, 32), (1, 0, 64), (1, 1, 64)):
        shapes = {'norm1': (dims,), 'attn.qkv': (3 * dims, dims), 'attn.proj': (dims, dims), 'norm2': (dims,)}
        shapes |= {'mlp.fc1': (4 * dims, dims), 'mlp.fc2': (dims, 4 * dims)}
        for part, shape in shapes.items():
            prefix = f'layers.{stage}.blocks.{block}.{part}'
            official |= {f'{prefix}.weight': shape, f'{prefix}.bias': shape[:1]}
        official[f'layers.{stage}.blocks.{block}.attn.relative_position_bias_table'] = (169, dims // 32)
    official |= {'layers.0.downsample.norm.weight': (128,), 'layers.0.downsample.norm.bias': (128,)}
    official |= {'layers.0.downsample.reduction.weight': (64, 128), 'norm.weight': (64,), 'norm.bias': (64,)}
    official |= {'head.weight': (10, 64), 'layers.1.blocks.1.attn_mask': (4, 49, 49)}
    state = {key: 0.3 * torch.randn(shape) for key, shape in official.items()}
    torch.save({'model': state}, tmp_path / 'swin.pth')
    weights.load(model, tmp_path / 'swin.pth')

    theirs = SwinTransformer(embed_dims=32, depths=(1, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
    converted = {key.removeprefix('backbone.'): value for key, value in swin_converter(dict(state)).items()}
    converted['norm1.weight'], converted['norm1.bias'] = state['norm.weight'], state['norm.bias']
    theirs.load_state_dict(converted, strict=False)
    theirs.eval()
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(model(image)[1], theirs(image)[1], rtol=1e-4, atol=1e-4)


def test_official_deit_weights(tmp_path: Path) -> None:
    """The position embedding is resized, the class token's row is not; the rest keeps its values under other names."""
    source, model = DeiT(128, (64, 64), True, depth=1), DeiT(128, (96, 32), True, depth=1)
    state = {
        key.replace('patch_embed.', 'patch_embed.proj.').replace('mlp.0', 'mlp.fc1').replace('mlp.2', 'mlp.fc2'): value
        for key, value in source.state_dict().items()
    }
    state['pos_embed'] = state['pos_embed'].clone()
    state['pos_embed'][:, 1:] = 2.0
    torch.save({'model': {**state, 'head.weight': torch.zeros(1000, 128)}}, tmp_path / 'deit.pth')
    weights.load(model, tmp_path / 'deit.pth')
    assert model.pos_embed[:, 1:].shape[1] == 12
    assert (model.pos_embed[:, 1:] - 2).abs().max() < 1e-5
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert torch.equal(model.blocks[0].mlp[2].weight, source.blocks[0].mlp[2].weight)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({'model': DeiT(64, (32, 32), True, depth=1).state_dict()}, tmp_path / 'deit.pth')
    with pytest.raises(RuntimeError, match='does not fit Swin: .* are not in it'):
        weights.load(Swin(32, (1,)), tmp_path / 'deit.pth')


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', ['erf.py', *arguments])
    run_tool(main)


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Names, a model of the zoo with its published file, images from a folder with one that is none."""
    folder = tmp_path / 'images'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8))
    (folder / 'b.txt').write_text('no image')
    _, model, file = weights.backbone('vmamba_t_imagenet', 64)
    torch.save({'model': model.state_dict()}, tmp_path / file)
    options = ('--images', str(folder), '--size', '64', '--out', str(tmp_path / 'out'), '--weights', str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        _call(monkeypatch, 'vim_tiny', 'vmamba_t_imagenet', '--beside', 'deit_tiny', *options)
    assert stop.value.code == 1
    assert 'left out: ' in capsys.readouterr().err
    found = json.loads((tmp_path / 'out' / 'erf.json').read_text())
    assert found['images'] == 1
    areas = found['part of the area that holds a share']
    assert set(areas['random weights']) == {'Vim-Ti', 'vmamba_t_imagenet', 'DeiT-Ti, SDPA'}
    assert list(areas['with weights']) == ['vmamba_t_imagenet']
    assert all(0 < part['50 %'] <= part['99 %'] <= 1 for row in areas.values() for part in row.values())
    assert (tmp_path / 'out' / 'erf.png').stat().st_size > 20_000


def test_unknown_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: unknown model 'vimm_tiny'; nearest: vim_tiny"):
        _call(monkeypatch, 'vimm_tiny', '--size', '32')


def test_images_are_cut_to_the_middle(tmp_path: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = (0, 0, 255)  # red, as OpenCV writes it
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (read,), unreadable = erf.read_images([tmp_path / 'a.png'], 40)
    assert not unreadable
    assert read.shape == (1, 3, 40, 40)
    assert (read[0, 0] > 2).all()
    assert (read[0, 1:] < -1).all()
