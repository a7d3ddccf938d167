"""What goes on from a stage of a backbone to the next, as one map whatever the family."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from mmvim.errors import UserTypeError, UserValueError
from mmvim.models.backbones.base import Backbone


def expect_backbone(backbone: nn.Module) -> Backbone:
    """See that a backbone is one of ours, whose stages are known.

    Raises:
        TypeError: If it is another's.
    """
    if not isinstance(backbone, Backbone):
        raise UserTypeError(
            f'{type(backbone).__name__} is no backbone of mmvim, its stages are not known: take a model of the zoo '
            '(python tools/zoo.py list)'
        )
    return backbone


def stage_index(backbone: Backbone, stage: int) -> int:
    """The number of a stage, or of a block of a plain backbone, counted from the end if negative.

    Raises:
        ValueError: If there is none of that number.
    """
    count = len(backbone.used_stages())
    if not -count <= stage < count:
        raise UserValueError(f'stage {stage}: {type(backbone).__name__} is computed in stages 0 to {count - 1} here')
    return stage % count


class Watch(AbstractContextManager):
    """While it is open, all that goes on behind a stage goes through ``probe``, an identity, as a map (B, C, h, w).

    Hooks of the probe see that map, or replace it; gradients come to it complete, for nothing passes beside it. A class
    token is led past.

    Args:
        backbone: In evaluation mode.
        stage: Number of the stage, or of the block of a plain backbone; negative from the end.

    Attributes:
        probe: For hooks.
    """

    def __init__(self, backbone: nn.Module, stage: int) -> None:
        self.backbone = expect_backbone(backbone)
        self.outlet = backbone.outlets()[stage_index(backbone, stage)]
        self.probe = nn.Identity()
        self._grid: tuple[int, int] | None = None

    def __enter__(self) -> 'Watch':
        self._hooks = [
            self.backbone.embedding()[0].register_forward_hook(self._embedded),
            self.outlet.register_forward_hook(self._through),
        ]
        return self

    def __exit__(self, *_: type | BaseException | TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def _embedded(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        if isinstance(output, tuple):  # tokens, and the grid that they stand on
            self._grid = tuple(output[1])

    def _through(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if output.dim() == 4:
            return self.probe(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        count = self._grid[0] * self._grid[1]
        start = 0 if self.backbone.tokens_first else count // 2
        before, extra, behind = output.split([start, output.shape[1] - count, count - start], 1)
        patches = torch.cat([before, behind], 1)
        seen = self.probe(patches.transpose(1, 2).unflatten(2, self._grid)).flatten(2).transpose(1, 2)
        before, behind = seen.split([start, count - start], 1)
        return torch.cat([before, extra, behind], 1)
