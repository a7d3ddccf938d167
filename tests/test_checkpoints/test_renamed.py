"""Names of earlier releases are found, with a line that says where they are now."""

import pytest

from mmvim import checkpoints
from mmvim.models.layers import resize_pos_embed


@pytest.mark.parametrize(
    ('old', 'new', 'value'),
    [
        ('install', 'mmvim.checkpoints.read_safely_everywhere', checkpoints.read_safely_everywhere),
        ('resize_pos_embed', 'mmvim.models.layers.resize_pos_embed', resize_pos_embed),
    ],
)
def test_an_old_name(old: str, new: str, value: object) -> None:
    with pytest.warns(FutureWarning, match=f'mmvim.checkpoints.{old} is now {new}'):
        assert getattr(checkpoints, old) is value
