"""MambaVision gives the numbers of the authors' package: weights drawn by name, outputs stored.

They were made by ``tools/compare_mambavision.py --write-golden``, which runs the package itself. Stored are the maps
that leave the stages, in front of their norms, and the scores.
"""

import pytest
import torch
import torch.nn.functional as F
from fill import filled_state_dict, image
from golden import Golden
from official_mambavision import classifier_shapes

from mmvim.checkpoints import from_official
from mmvim.models import MambaVision
from mmvim.models.backbones import mambavision_blocks

TOLERANCE = 5e-5
NAMES = [
    'mambavision_tiny_224x224',
    'mambavision_tiny_150x210',
    'mambavision_tiny_97x161',
    'mambavision_tiny_150x210_windows_20_9',  # larger than the map
    'mambavision_scaled_90x70',  # with a factor per channel behind each branch
]


def outputs(golden: Golden) -> dict[str, torch.Tensor]:
    """What ours gives for the weights and the image of a stored example."""
    arch = golden.info['arch']
    state = from_official(filled_state_dict(golden.info['shapes'] or classifier_shapes(arch)))
    part = {key: state.pop(key) for key in list(state) if key.startswith('classifier.')}
    mambavision = MambaVision(arch, window_sizes=golden.info['windows'], out_norm=False).eval()
    mambavision.load_state_dict(state)
    with torch.no_grad():
        maps = mambavision(image(**golden.info['input']))
        norm = (part[f'classifier.norm.{name}'] for name in ('running_mean', 'running_var', 'weight', 'bias'))
        pooled = F.batch_norm(maps[3], *norm).mean((2, 3))
        logits = F.linear(pooled, part['classifier.head.weight'], part['classifier.head.bias'])
    return {**{f'stage{i}': x for i, x in enumerate(maps)}, 'logits': logits}


@pytest.mark.parametrize('name', NAMES)
def test_outputs(name: str) -> None:
    golden = Golden(name)
    found = outputs(golden)
    assert found.keys() == golden.arrays.keys()
    for key, x in found.items():
        golden.assert_close(key, x, TOLERANCE)


def test_scans_show_in_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the bias of the steps is added twice is no matter of rounding."""
    scan = mambavision_blocks.scan
    once = lambda *args, delta_bias, **options: scan(*args, delta_bias=delta_bias / 2, **options)  # noqa: E731
    monkeypatch.setattr(mambavision_blocks, 'scan', once)
    golden = Golden('mambavision_tiny_97x161')
    found = outputs(golden)
    golden.assert_close('stage1', found['stage1'], TOLERANCE)
    with pytest.raises(AssertionError, match='stage2: .* of the largest value'):
        golden.assert_close('stage2', found['stage2'], 10 * TOLERANCE)
