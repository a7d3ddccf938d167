"""ConvNeXt, which is mmpretrain's, under a name that says what to install where mmpretrain is not."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from mmvim.errors import UserModuleNotFoundError
from mmvim.registry import register_model


@register_model
def ConvNeXt(**options: Any) -> nn.Module:
    """mmpretrain's ConvNeXt (https://arxiv.org/abs/2201.03545), a baseline.

    Args:
        options: Arguments of ``mmpretrain.ConvNeXt``.

    Raises:
        ModuleNotFoundError: If mmpretrain is not installed.
    """
    if find_spec('mmpretrain') is None:
        raise UserModuleNotFoundError('ConvNeXt comes from mmpretrain, which is not installed: pip install mmpretrain')
    # Not by the registry, which would hide why an import fails.
    from mmpretrain.models import ConvNeXt as convnext

    return convnext(**options)
