"""MambaOut gives the numbers of the official code: weights drawn by name, outputs stored.

Stored are the maps that leave the stages, in front of the norms of the outputs, which are ours.
"""

import pytest
import torch
import torch.nn.functional as F
from fill import filled_state_dict, image
from golden import Golden
from official_mambaout import as_in_timm, classifier_shapes

from mmvim.checkpoints import from_official
from mmvim.models import MambaOut

RELATIVE, LARGEST = 1e-5, 1e-4


@pytest.mark.parametrize('layout', ['authors', 'timm'])
@pytest.mark.parametrize('name', ['mambaout_femto_128x160', 'mambaout_femto_224x224'])
def test_classifier(name: str, layout: str) -> None:
    """Stages, pooled and normed vector, logits; timm computes the same from the weights under its names."""
    golden = Golden(name)
    state = filled_state_dict(classifier_shapes('femto'))
    state = from_official(as_in_timm(state) if layout == 'timm' else state)
    classifier = {key: state.pop(key) for key in list(state) if key.startswith('classifier.')}
    mambaout = MambaOut('femto', out_indices=3).eval()
    assert not mambaout.load_state_dict(state, strict=False).unexpected_keys
    maps = []
    for stage in mambaout.stages:
        stage.register_forward_hook(lambda module, args, out: maps.append(out.permute(0, 3, 1, 2)))

    def part(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return classifier[f'classifier.{name}.weight'], classifier[f'classifier.{name}.bias']

    with torch.no_grad():
        (out,) = mambaout(image(**golden.info['input']))
        for i, x in enumerate(maps):
            golden.assert_near(f'stage{i}', x, RELATIVE, LARGEST)
        pooled = F.layer_norm(maps[3].mean((2, 3)), (288,), *part('norm'), 1e-6)
        golden.assert_near('pre_head', pooled, RELATIVE, LARGEST)
        hidden = F.gelu(F.linear(pooled, *part('head.fc1')))
        hidden = F.layer_norm(hidden, (4 * 288,), *part('head.norm'), 1e-6)
        golden.assert_near('logits', F.linear(hidden, *part('head.fc2')), RELATIVE, LARGEST)
    # The output itself is normed, by a norm that no file has.
    torch.testing.assert_close(out, F.layer_norm(maps[3].movedim(1, -1), (288,), eps=1e-6).movedim(-1, 1))
