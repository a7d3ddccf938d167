"""timm for all tests of this folder: it is on nobody's path before the first of them runs."""

import sys
from types import ModuleType

import pytest
from elsewhere import load_timm
from torch import Tensor


@pytest.fixture(scope='session')
def timm() -> ModuleType:
    """timm with our models, and a small one of each family, ``small_vmamba`` and the like."""
    return load_timm()


@pytest.fixture
def with_operators(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmcv's compiled operators where torchvision has not its own: NMS, and RoIAlign in place of one in Python."""
    import torchvision
    from mmcv.ops import roi_align

    def roi_align_as_theirs(
        maps: Tensor, rois: Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool
    ):
        return roi_align(maps, rois, (height, width), scale, ratio, 'avg', aligned)

    monkeypatch.setattr(torchvision.ops.boxes, '_assert_has_ops', lambda: None)
    monkeypatch.setattr(sys.modules['torchvision.ops.roi_align'], '_roi_align', roi_align_as_theirs)
