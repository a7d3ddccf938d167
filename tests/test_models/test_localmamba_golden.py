"""LocalVim and LocalVMamba give the numbers of the official code: weights drawn by name, outputs stored.

Maps that are not square are stored twice: as the official code computes them, and with walks along columns that come
back to their tokens (`fixrev`).
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fill import filled_state_dict, image
from golden import Golden
from official_localmamba import (
    localvim_dense_shapes,
    localvim_shapes,
    localvmamba_dense_shapes,
    localvmamba_shapes,
)

from mmvim.checkpoints import from_official, load_backbone
from mmvim.models import LocalVim, LocalVMamba
from mmvim.models.layers import resize_pos_embed

RELATIVE, LARGEST, POOLED = 2e-5, 1e-4, 1e-5
DENSE = {'out_indices': (4, 9, 14, 19), 'feature': 'branch', 'norm': 'layer'}


def filled(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Rotations are computed, in the official code too."""
    return from_official(filled_state_dict({key: shape for key, shape in shapes.items() if 'rope' not in key}))


@pytest.mark.parametrize(
    ('name', 'legacy'),
    [
        ('localvim_tiny_dense_224', False),
        ('localvim_tiny_dense_128x160', True),
        ('localvim_tiny_dense_fixrev_128x160', False),
    ],
)
def test_localvim(name: str, legacy: bool) -> None:
    golden = Golden(name)
    backbone = LocalVim('tiny', legacy_reverse=legacy, **DENSE).eval()
    backbone.load_state_dict(filled(localvim_dense_shapes('tiny')))
    with torch.no_grad():
        for i, out in enumerate(backbone(image(**golden.info['input']))):
            golden.assert_near(f'out{i}', out, RELATIVE, LARGEST)


@pytest.mark.parametrize(
    ('name', 'legacy'),
    [
        ('localvmamba_tiny_dense_128', False),
        ('localvmamba_tiny_dense_128x160', True),
        ('localvmamba_tiny_dense_fixrev_128x160', False),
    ],
)
def test_localvmamba(name: str, legacy: bool) -> None:
    golden = Golden(name)
    backbone = LocalVMamba('tiny', legacy_reverse=legacy).eval()
    backbone.load_state_dict(filled(localvmamba_dense_shapes('tiny')))
    with torch.no_grad():
        for i, out in enumerate(backbone(image(**golden.info['input']))):
            golden.assert_near(f'out{i}', out, RELATIVE, LARGEST)


@pytest.mark.parametrize('class_token', [False, True])
def test_localvim_classifier(class_token: bool) -> None:
    golden = Golden('localvim_tiny_middle_cls_224' if class_token else 'localvim_tiny_cls_224')
    state = filled(localvim_shapes('tiny', class_token))
    head = state.pop('head.weight'), state.pop('head.bias')
    options = {'out_type': 'cls_token'} if class_token else {'final_norm': True}
    backbone = LocalVim('tiny', out_norm=False, **options).eval()
    backbone.load_state_dict(state)
    with torch.no_grad():
        (out,) = backbone(image(**golden.info['input']))
        pooled = out if class_token else out.mean((2, 3))
        golden.assert_near('pre_head', pooled, RELATIVE, POOLED)
        golden.assert_near('logits', F.linear(pooled, *head), RELATIVE, POOLED)


def test_localvmamba_classifier() -> None:
    golden = Golden('localvmamba_tiny_cls_224')
    state = filled(localvmamba_shapes('tiny'))
    state['outnorm3.weight'], state['outnorm3.bias'] = (state.pop(f'classifier.norm.{x}') for x in ('weight', 'bias'))
    head = state.pop('classifier.head.weight'), state.pop('classifier.head.bias')
    backbone = LocalVMamba('tiny', out_indices=3).eval()
    backbone.load_state_dict(state)
    with torch.no_grad():
        (out,) = backbone(image(**golden.info['input']))
        golden.assert_near('logits', F.linear(out.mean((2, 3)), *head), RELATIVE, LARGEST)


def test_a_classifier_in_a_larger_dense_model(tmp_path: Path) -> None:
    """Tables of positions and rotations are interpolated, norms get biases of 0, those of the outputs are new."""
    golden = Golden('localvim_tiny_loaded_256')
    shapes = localvim_shapes('tiny')
    state = filled_state_dict({key: shape for key, shape in shapes.items() if 'rope' not in key})
    state |= {key: torch.full(shapes[key], torch.nan) for key in shapes if 'rope' in key}  # not to be used
    torch.save({'state_dict': state}, tmp_path / 'local_vim_tiny.ckpt')
    backbone = LocalVim('tiny', pretrain_img_size=256, **DENSE).eval()
    report = load_backbone(backbone, tmp_path / 'local_vim_tiny.ckpt', expected_missing=LocalVim.expected_missing)
    assert report.done == ['position embedding 14 x 14 resized to 16 x 16', 'norms without biases: these are 0']
    golden.assert_near('pos_embed_resized', backbone.pos_embed, RELATIVE, LARGEST)
    tables = backbone._angles((16, 16), backbone.pos_embed)
    for name, table in zip(('cos', 'sin'), tables, strict=True):
        golden.assert_near(f'rope_{name}_resized', table, RELATIVE, LARGEST)
    with torch.no_grad():
        for i, out in enumerate(backbone(image(**golden.info['input']))):
            golden.assert_near(f'out{i}', out, RELATIVE, LARGEST)


def test_rotations_are_interpolated_from_the_model_s_own_grid() -> None:
    """Twice, where an image is of another size than the model was made for: as the official code does."""
    backbone = LocalVim({**LocalVim.arch_zoo['tiny'], 'depth': 1, 'directions': ('h',)}, pretrain_img_size=256)
    published = LocalVim({**LocalVim.arch_zoo['tiny'], 'depth': 1, 'directions': ('h',)})
    like = backbone.pos_embed
    (middle, _), (found, _) = backbone._angles((16, 16), like), backbone._angles((9, 12), like)
    torch.testing.assert_close(found, resize_pos_embed(middle, (16, 16), (9, 12)))
    assert not torch.allclose(found, published._angles((9, 12), like)[0], atol=1e-3)
