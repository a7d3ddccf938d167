"""What each walk adds: held against the sum that the layer itself sees."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmvim.models.backbones.vmamba_mixer as vmamba_mixer
from mmvim.analysis.contributions import contributions, scanning_layers
from mmvim.models import EfficientVMamba, LocalVMamba, MambaOut, MambaVision, PlainMamba, Vim, VMamba
from mmvim.ops import scan

VIM = {'embed_dims': 16, 'depth': 2, 'patch_size': 16, 'patch_stride': 16}
IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def ready(backbone: nn.Module) -> nn.Module:
    """In evaluation mode."""
    backbone.eval()
    return backbone


def test_norms_are_those_of_the_parts_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone = ready(VMamba({'embed_dims': 8, 'depths': (1, 1)}, out_indices=(1,)))
    found = contributions(backbone, IMAGE, 'layers.1.blocks.0.op')
    parts = []

    def apart(*arguments: Tensor, merge: str, **options: object) -> Tensor:
        parts.append(scan(*arguments, merge='none', **options))
        return parts[-1].sum(1)

    monkeypatch.setattr(vmamba_mixer, 'scan', apart)
    with torch.no_grad():
        backbone(IMAGE)
    assert found.names == ('rows', 'columns', 'rows, reversed', 'columns, reversed')
    expected = parts[1][0].norm(dim=-1).unflatten(1, (8, 12))
    np.testing.assert_allclose(found.norms, expected.numpy(), rtol=1e-5)
    assert found.shares().sum() == pytest.approx(1)


def test_one_walk_is_all_of_it() -> None:
    torch.manual_seed(0)
    backbone = ready(Vim(VIM, walks='rows'))
    inputs = []
    backbone.layers[0].mixer.out_proj.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    found = contributions(backbone, IMAGE, 'layers.0.mixer')
    np.testing.assert_allclose(found.norms[0], inputs[0][0].norm(dim=-1).view(4, 6).numpy(), rtol=1e-5)
    assert found.names == ('rows',)


def test_a_class_token_is_left_out() -> None:
    torch.manual_seed(0)
    backbone = ready(Vim(VIM, out_type='cls_token'))
    inputs = []
    backbone.layers[0].mixer.out_proj.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    found = contributions(backbone, IMAGE, 'layers.0.mixer')
    assert found.norms.shape == (2, 4, 6)
    assert inputs[0].shape[1] == 25
    # The sum of the walks at a token is at most the sum of their norms, and at least the difference.
    whole = np.delete(inputs[0][0].norm(dim=-1).numpy(), 12).reshape(4, 6)
    assert (whole <= found.norms.sum(0) * (1 + 1e-5)).all()
    assert (whole >= np.abs(found.norms[0] - found.norms[1]) * (1 - 1e-5)).all()


def test_windows_are_put_together() -> None:
    """An image of one bright window contributes there; in maps that are no whole number of windows."""
    torch.manual_seed(0)
    backbone = ready(MambaVision('tiny', window_sizes=(3, 2), out_indices=(2,)))
    layer = scanning_layers(backbone)[0]
    image = torch.zeros(1, 3, 80, 112)
    first = contributions(backbone, image, layer).norms
    assert first.shape == (1, 5, 7)
    image[:, :, 64:, 96:] = 4
    second = contributions(backbone, image, layer).norms
    changed = np.abs(second - first)[0]
    assert changed[4, 6] > 0
    # Through windows of 3 x 3 it reaches only the last ones, beside what the convolutions before them see.
    assert changed[:3, :3].max() < 1e-3 * changed.max()


@pytest.mark.parametrize(
    ('backbone', 'walks', 'visited'),
    [
        (lambda: PlainMamba('l1', out_indices=0), 'columns, turning', 1.0),
        (lambda: EfficientVMamba('tiny', out_indices=0), 'even rows, odd columns', 0.25),
        (lambda: LocalVMamba('tiny', out_indices=0), 'w7', 1.0),
    ],
)
def test_walks_have_names_and_places(backbone: object, walks: str, visited: float) -> None:
    torch.manual_seed(0)
    model = ready(backbone())
    found = contributions(model, IMAGE, scanning_layers(model)[0])
    assert walks in found.names
    assert ((found.norms > 0).mean((1, 2)) == visited).all()


def test_layers_that_are_none_or_not_reached() -> None:
    backbone = ready(Vim(VIM, out_indices=0))
    assert scanning_layers(backbone) == ['layers.0.mixer', 'layers.1.mixer']
    assert scanning_layers(MambaOut('femto')) == []
    with pytest.raises(ValueError, match=r'blocks\.0 is no layer that scans: expected one of layers\.0\.mixer'):
        contributions(backbone, IMAGE, 'blocks.0')
    with pytest.raises(ValueError, match=r'layers\.1\.mixer did not scan .* behind the last output'):
        contributions(backbone, IMAGE, 'layers.1.mixer')
