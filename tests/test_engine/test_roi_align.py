"""RoIAlign by matrix products against mmcv's kernel."""

import pytest
import torch
from mmcv.ops import RoIAlign

from mmvim.engine.roi_align import pool_by_products


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_regions_of_all_kinds(aligned: bool, sampling_ratio: int) -> None:
    """Inside, over the border, outside, smaller than a pixel, empty; of both maps."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 17, 23, generator=generator)
    places = torch.rand(60, 4, generator=generator) * torch.tensor([100.0, 80, 60, 50]) - torch.tensor([10.0, 10, 0, 0])
    places[:, 2:] += places[:, :2]
    odd = [[0, 0, 0.5, 0.5], [3, 3, 3, 3], [-90, -90, -60, -60], [200, 200, 300, 300], [-500, -500, 500, 500]]
    places = torch.cat([places, torch.tensor(odd)])
    rois = torch.cat([(torch.arange(len(places)) % 2)[:, None], places], 1)
    layer = RoIAlign((7, 4), 0.25, sampling_ratio, aligned=aligned)
    expected = layer(maps, rois)
    pool_by_products(layer)
    torch.testing.assert_close(layer(maps, rois), expected, rtol=1e-4, atol=1e-5)
    assert layer(maps, rois[:0]).shape == (0, 5, 7, 4)


def test_other_pooling_is_left_alone() -> None:
    layer = RoIAlign(7, pool_mode='max')
    pool_by_products(layer)
    assert 'forward' not in vars(layer)
