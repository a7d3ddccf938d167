"""DeiT, the baseline: the numbers of another implementation, and Vim's manners around the blocks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmvim.checkpoints import load_backbone
from mmvim.models import DeiT, Vim

SMALL = {'embed_dims': 48, 'depth': 2, 'heads': 3}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def classifier(arch: str = 'tiny', tokens: int = 1) -> dict[str, Tensor]:
    """What an official file holds: one block after the other, the position embedding with a row for each token."""
    width, generator = DeiT.arch_zoo[arch]['embed_dims'], torch.Generator().manual_seed(0)
    shapes = {'cls_token': (1, 1, width), 'pos_embed': (1, 196 + tokens, width)}
    shapes |= {'dist_token': (1, 1, width)} if tokens == 2 else {}
    layers = {'patch_embed.proj': (width, 3, 16, 16), 'norm': (width,), 'head': (1000, width)}
    layers |= {'head_dist': (1000, width)} if tokens == 2 else {}
    for i in range(12):
        layers |= {f'blocks.{i}.norm1': (width,), f'blocks.{i}.attn.qkv': (3 * width, width)}
        layers |= {f'blocks.{i}.attn.proj': (width, width), f'blocks.{i}.norm2': (width,)}
        layers |= {f'blocks.{i}.mlp.fc1': (4 * width, width), f'blocks.{i}.mlp.fc2': (width, 4 * width)}
    for layer, shape in layers.items():
        shapes |= {f'{layer}.weight': shape, f'{layer}.bias': shape[:1]}
    return {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def test_published_sizes() -> None:
    """The official classifiers have 5.7 and 22.1 million parameters, by their authors' log."""
    assert sum(x.numel() for x in classifier('tiny').values()) == 5_717_416
    assert sum(x.numel() for x in classifier('small').values()) == 22_050_664


@pytest.mark.parametrize('size', [(224, 224), (160, 240)])
def test_against_mmseg(size: tuple[int, int], tmp_path: Path) -> None:
    """mmseg's transformer from the same official file, renamed for it; its last row of patches is padded as well."""
    from mmseg.models.backbones import VisionTransformer

    state = classifier()
    torch.save({'model': state}, tmp_path / 'deit.pth')
    ours = DeiT('tiny', out_indices=(2, 11)).eval()
    load_backbone(ours, tmp_path / 'deit.pth')
    theirs = VisionTransformer(
        img_size=224, embed_dims=192, num_heads=3, out_indices=(2, 11), with_cls_token=False, patch_bias=True,
        interpolate_mode='bicubic', norm_cfg={'type': 'LN', 'eps': 1e-6},
    )  # fmt: skip
    theirs.eval()
    names = {'patch_embed.proj': 'patch_embed.projection', 'blocks': 'layers', 'norm1': 'ln1', 'norm2': 'ln2'}
    names |= {'attn.qkv.': 'attn.attn.in_proj_', 'attn.proj': 'attn.attn.out_proj'}
    names |= {'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}
    renamed = {}
    for key, tensor in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = tensor
    assert not theirs.load_state_dict(renamed, strict=False).missing_keys
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        for a, b in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [(150, 210), (16, 16), (33, 47)])
def test_any_size(size: tuple[int, int]) -> None:
    outs = DeiT(SMALL, out_indices=(0, 1)).eval()(torch.rand(2, 3, *size))
    assert [tuple(out.shape) for out in outs] == [(2, 48, -(-size[0] // 16), -(-size[1] // 16))] * 2
    assert all(out.is_contiguous() and out.isfinite().all() for out in outs)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch 'huge': expected one of t, tiny"),
        ({'arch': {**SMALL, 'heads': 5}}, 'embed_dims 48: expected a multiple of the 5 heads'),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeiT(**{'arch': SMALL, **options})


def test_layer_depth() -> None:
    deit = DeiT('tiny')
    expected = {'backbone.pos_embed': 0, 'backbone.patch_embed.proj.bias': 0, 'backbone.blocks.0.norm1.weight': 1}
    expected |= {'backbone.blocks.11.mlp.fc2.bias': 12, 'neck.simfp_2.0.weight': 13}
    for name, depth in expected.items():
        assert deit.get_layer_depth(name, 'backbone.') == (depth, 14), name


@pytest.mark.parametrize('tokens', [1, 2], ids=['plain', 'distilled'])
def test_published_file(tokens: int, tmp_path: Path) -> None:
    state = classifier(tokens=tokens)
    torch.save({'model': state}, tmp_path / 'deit.pth')
    deit = DeiT('tiny')
    report = load_backbone(deit, tmp_path / 'deit.pth')
    for key, tensor in deit.state_dict().items():
        assert torch.equal(tensor, state[key][:, tokens:] if key == 'pos_embed' else state[key]), key
    assert 'row of the class token taken out of the position embedding' in str(report)
    assert {report.left_out[key] for key in ('head.weight', 'norm.bias', 'cls_token')} == {
        'classifier', 'the model uses no final norm', 'the model has no such token'
    }  # fmt: skip
    # What was saved from the backbone goes in again.
    torch.save({'state_dict': {f'backbone.{key}': x for key, x in deit.state_dict().items()}}, tmp_path / 'own.pth')
    assert load_backbone(DeiT('tiny'), tmp_path / 'own.pth').done == ['names behind backbone.']


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    torch.save({'model': classifier('small')}, tmp_path / 'small.pth')
    with pytest.raises(
        RuntimeError, match=r'holds DeiT-Small \(384 wide, 12 deep\), the model is DeiT-Tiny \(192 wide'
    ):
        load_backbone(DeiT('tiny'), tmp_path / 'small.pth')
    vim = Vim({'embed_dims': 32, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match='holds Vim, the model is DeiT'):
        load_backbone(DeiT('tiny'), tmp_path / 'vim.pth')
    with pytest.raises(RuntimeError, match='holds DeiT, the model is Vim'):
        load_backbone(vim, tmp_path / 'small.pth')
    large = classifier() | {'pos_embed': torch.ones(1, 577, 192)}
    torch.save({'model': large}, tmp_path / 'large.pth')
    assert 'position embedding 24 x 24 resized to 14 x 14' in load_backbone(DeiT('tiny'), tmp_path / 'large.pth').done
    done = load_backbone(DeiT('tiny', pretrain_img_size=384), tmp_path / 'large.pth').done
    assert done == ['row of the class token taken out of the position embedding']
    torch.save({'model': large | {'pos_embed': torch.ones(1, 576, 192)}}, tmp_path / 'oblong.pth')
    with pytest.raises(RuntimeError, match=r'pos_embed of 575 patches, no square, cannot be resized to 196'):
        load_backbone(DeiT('tiny'), tmp_path / 'oblong.pth')
