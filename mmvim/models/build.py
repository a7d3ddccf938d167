"""Models of configs without the weights that their training starts from."""

from copy import deepcopy

from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def build_untrained(settings: dict, scope: str | None = None) -> nn.Module:
    """A model, or a backbone, with random weights in evaluation mode: no file is read, and no GPU is needed.

    Args:
        settings: ``model`` of a config, or ``model.backbone``; stays as it is.
        scope: ``default_scope`` of the config; by default the one that is in force.
    """
    settings = ConfigDict(deepcopy(settings))
    for part in (settings, settings.get('backbone')):
        if part is not None:
            part.init_cfg = None
    with DefaultScope.overwrite_default_scope(scope):
        model = revert_sync_batchnorm(MODELS.build(settings))
    model.eval()  # on its own: mmdet's backbones return nothing
    return model
