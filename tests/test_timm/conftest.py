"""timm for all tests of this folder: it is on nobody's path before the first of them runs."""

from types import ModuleType

import pytest
from elsewhere import load_timm


@pytest.fixture(scope='session')
def timm() -> ModuleType:
    """timm with our models, and a small one of each family, ``small_vmamba`` and the like."""
    return load_timm()


@pytest.fixture
def with_operators(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision believes that it has the operator that was declared for it."""
    import torchvision

    monkeypatch.setattr(torchvision.ops.boxes, '_assert_has_ops', lambda: None)
