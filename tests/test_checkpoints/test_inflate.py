"""RGB weights for images of other channels: on request, as timm makes them."""

from pathlib import Path

import pytest
import torch

from mmvim.checkpoints import load_backbone
from mmvim.checkpoints.inflate import inflate_input
from mmvim.models import DeiT, MambaOut, MambaVision, Vim, VMamba

SMALL = {
    'Vim': lambda channels: Vim(
        {'embed_dims': 8, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}, in_channels=channels
    ),
    'VMamba': lambda channels: VMamba(
        {**VMamba.arch_zoo['tiny'], 'embed_dims': 8, 'depths': (1, 1, 1, 1)}, in_channels=channels
    ),
    'MambaOut': lambda channels: MambaOut({'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)}, in_channels=channels),
    'MambaVision': lambda channels: MambaVision(
        {'embed_dims': 8, 'stem_dims': 4, 'depths': (1, 1, 1, 1), 'heads': (1, 1)}, in_channels=channels
    ),
    'DeiT': lambda channels: DeiT({'embed_dims': 8, 'depth': 1, 'heads': 1}, in_channels=channels),
}


def test_numbers() -> None:
    weight = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    four = inflate_input(weight, 4)
    assert torch.allclose(four[:, :3], weight * 0.75) and torch.allclose(four[:, 3], weight[:, 0] * 0.75)
    assert torch.allclose(inflate_input(weight, 1), weight.sum(1, keepdim=True))
    assert torch.allclose(inflate_input(weight, 2), weight[:, :2] * 1.5)
    assert torch.allclose(inflate_input(weight, 6).sum(1), weight.sum(1))
    assert inflate_input(weight.half(), 8).dtype == torch.half


@pytest.mark.parametrize('channels', [1, 4])
@pytest.mark.parametrize('name', SMALL)
def test_every_family(tmp_path: Path, name: str, channels: int) -> None:
    source, target = SMALL[name](3), SMALL[name](channels)
    weight = source.state_dict()[target.input_weight]
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'1 of other shape.*init_cfg=dict\(\.\.\., inflate_input=True\)'):
        load_backbone(target, tmp_path / 'a.pth')
    target.init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'inflate_input': True}
    target.init_weights()
    assert torch.equal(target.state_dict()[target.input_weight], inflate_input(weight, channels))
    report = load_backbone(target, tmp_path / 'a.pth', inflate_input=True)
    assert f'{target.input_weight} made for {channels} channels of those for RGB' in str(report)
    assert f'{target.input_weight} made' not in str(load_backbone(source, tmp_path / 'a.pth', inflate_input=True))


def test_what_is_not_rgb(tmp_path: Path) -> None:
    torch.save(SMALL['MambaOut'](4).state_dict(), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'a\.pth: stem\.conv1\.weight: inflate_input makes weights of RGB ones'):
        load_backbone(SMALL['MambaOut'](6), tmp_path / 'a.pth', inflate_input=True)
    with pytest.raises(ValueError, match='BatchNorm2d does not say which convolution sees the image'):
        torch.save(torch.nn.BatchNorm2d(2).state_dict(), tmp_path / 'b.pth')
        load_backbone(torch.nn.BatchNorm2d(2), tmp_path / 'b.pth', inflate_input=True)
