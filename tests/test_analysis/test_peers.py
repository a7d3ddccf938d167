"""The peers that mmvim is measured against are what they are called."""

import pytest
import torch
from mmdet.models import SwinTransformer
from torch import Tensor, nn

from mmvim.analysis.deit import DeiT
from mmvim.analysis.swin import Swin


def from_mmdet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of mmdet's Swin under our names."""
    names = {
        'patch_embed.projection.': 'patch_embed.', 'patch_embed.norm.': 'patch_norm.', '.blocks.': '.',
        '.attn.w_msa.relative_position_bias_table': '.attn.bias_table', '.attn.w_msa.': '.attn.',
        '.ffn.layers.0.0.': '.mlp.0.', '.ffn.layers.1.': '.mlp.2.',
    }  # fmt: skip
    ours = {}
    for name, value in state.items():
        if name.endswith('relative_position_index'):
            continue
        if '.downsample.' in name:
            # Of 2 x 2 neighbours mmdet's unfold puts channels first and rows before columns.
            value = value.unflatten(-1, (-1, 2, 2)).transpose(-1, -2).movedim(-3, -1).flatten(-3)
            name = name.replace('stages.', 'merging.').replace('.downsample.', '.')
        for theirs, our in names.items():
            name = name.replace(theirs, our)
        ours[name[:4] + 's.' + name[4:] if name[:4] == 'norm' else name] = value
    return ours


@pytest.mark.parametrize('size', [(64, 96), (225, 150)])
def test_swin_agrees_with_mmdet(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    settings = {'embed_dims': 32, 'depths': (2, 2, 2, 1), 'num_heads': (1, 2, 4, 8)}
    theirs, ours = SwinTransformer(**settings), Swin(32, settings['depths'])
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs.eval()
    ours.load_state_dict(from_mmdet(theirs.state_dict()))
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        for got, want in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_both_ways_of_attention_agree() -> None:
    torch.manual_seed(0)
    fused, naive = (DeiT(128, (64, 48), fused, depth=2) for fused in (True, False))
    for parameter in fused.parameters():
        nn.init.normal_(parameter, std=0.3)
    naive.load_state_dict(fused.state_dict())
    image = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(fused(image)[0], naive(image)[0], rtol=1e-4, atol=1e-4)
