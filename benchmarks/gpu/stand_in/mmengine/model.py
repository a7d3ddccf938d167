"""Base classes that do nothing but hold their arguments."""

from torch import nn


class BaseModule(nn.Module):
    """A module with room for ``init_cfg``."""

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg


class BaseModel(BaseModule):
    """For the definition of classifiers, which no benchmark builds."""


class BaseTTAModel(BaseModel):
    """For a check of types."""


def is_model_wrapper(model: nn.Module) -> bool:
    """There is none."""
    return False
