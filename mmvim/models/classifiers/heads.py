"""From the last output of a backbone to scores of classes."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvim.registry import MODELS


def pool(x: Tensor) -> Tensor:
    """A map (B, C, H, W) to its mean over all places, (B, C); a vector (B, C) as it is."""
    return x.mean((2, 3)) if x.dim() == 4 else x


@MODELS.register_module()
class LinearHead(BaseModule):
    """The head of Vim's and VMamba's classifiers: the mean over the map, then one linear layer.

    Args:
        in_channels (int): C, channels of the backbone's output.
        num_classes (int): Classes.
    """

    def __init__(self, in_channels: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C) to scores before the softmax (B, num_classes)."""
        return self.fc(pool(x))


@MODELS.register_module()
class MLPHead(BaseModule):
    """The head of MambaOut's classifiers: mean over the map, norm, and an MLP with a norm behind its activation.

    Args:
        in_channels (int): C, channels of the backbone's output.
        num_classes (int): Classes.
        hidden_ratio (int): Hidden channels of the MLP / C.
    """

    def __init__(self, in_channels: int, num_classes: int = 1000, hidden_ratio: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        hidden = hidden_ratio * in_channels
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.hidden_norm = nn.LayerNorm(hidden, eps=1e-6)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C) to scores before the softmax (B, num_classes)."""
        return self.fc2(self.hidden_norm(F.gelu(self.fc1(self.norm(pool(x))))))


@MODELS.register_module()
class BatchNormHead(BaseModule):
    """The head of MambaVision's classifiers: BatchNorm of the map, its mean, and one linear layer.

    Args:
        in_channels (int): C, channels of the backbone's output.
        num_classes (int): Classes.
    """

    def __init__(self, in_channels: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.norm = nn.BatchNorm2d(in_channels)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to scores before the softmax (B, num_classes)."""
        return self.fc(pool(self.norm(x)))
