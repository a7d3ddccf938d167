"""The official VMamba's name for its backbone, so that configs written for it go on working."""

from typing import Any

from mmvim.checkpoints.vmamba_config import from_official_config
from mmvim.registry import register_backbone

from .vmamba import VMamba


@register_backbone
def MM_VSSM(**options: Any) -> VMamba:
    """:class:`VMamba` from the keywords of the official backbone.

    Args:
        options: See :func:`~mmvim.checkpoints.vmamba_config.from_official_config`.
    """
    return VMamba(**from_official_config(options))
