"""What all backbones do in the same way: names of variants, choice of outputs, weights from files."""

from collections.abc import Sequence
from typing import ClassVar

from mmengine.model import BaseModule
from torch import nn

from mmvim.checkpoints import load_backbone


class Backbone(BaseModule):
    """A module with named variants, whose outputs are chosen by number and whose weights may come from a file.

    Attributes:
        arch_zoo: Settings of the published variants by name.
        required: Keys that an arch dict must have.
        optional: Keys that it may have.
        expected_missing: Tensors that a ``Pretrained`` file need not have, as patterns.
    """

    arch_zoo: ClassVar[dict[str, dict]]
    required: ClassVar[set[str]]
    optional: ClassVar[set[str]]
    expected_missing: ClassVar[tuple[str, ...]] = ()

    def init_weights(self) -> None:
        """Initialise as mmengine does; a ``Pretrained`` file is read without running code and must fit."""
        if self.init_cfg and self.init_cfg['type'] == 'Pretrained':
            source, prefix = self.init_cfg['checkpoint'], self.init_cfg.get('prefix')
            load_backbone(self, source, prefix=prefix, expected_missing=self.expected_missing)
            self._is_init = True
        else:
            super().init_weights()

    def _resolve_arch(self, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch.lower() not in self.arch_zoo:
                raise ValueError(f'arch {arch!r}: expected one of {", ".join(self.arch_zoo)}, or a dict')
            return self.arch_zoo[arch.lower()]
        missing, unknown = self.required - set(arch), set(arch) - self.required - self.optional
        if missing or unknown:
            raise ValueError(
                f'an arch dict needs {", ".join(sorted(self.required))} and may have '
                f'{", ".join(sorted(self.optional))}; missing: {sorted(missing)}, unknown: {sorted(unknown)}'
            )
        return dict(arch)

    @staticmethod
    def _resolve_out_indices(out_indices: int | Sequence[int], count: int, parts: str) -> tuple[int, ...]:
        """Positive indices of the ``count`` blocks or stages (``parts``) whose output is wanted."""
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        positive = tuple(index + count if index < 0 else index for index in indices)
        if not positive or not all(0 <= index < count for index in positive):
            raise ValueError(f'out_indices {out_indices}: the {count} {parts} are numbered 0 to {count - 1}')
        if len(set(positive)) < len(positive) or list(positive) != sorted(positive):
            raise ValueError(f'out_indices {out_indices}: expected each of them once, in rising order')
        return positive

    @staticmethod
    def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
        if value not in choices:
            raise ValueError(f'{name}={value!r}: expected one of {", ".join(map(repr, choices))}')
        return value


class StagedBackbone(Backbone):
    """A backbone of stages of falling resolution; every output has a norm ``outnorm{i}`` of its own.

    Attributes:
        out_indices: Stages whose output is returned.
        frozen_stages: Stages that are not trained, the embedding included: -1 none, 0 the embedding only, n the first
            n stages with their outputs' norms too.
    """

    expected_missing: ClassVar[tuple[str, ...]] = ('outnorm*',)
    out_indices: tuple[int, ...]
    frozen_stages: int

    def _embedding_and_stages(self) -> tuple[nn.Module, nn.ModuleList]:
        """What makes the first map of an image, and the stages behind it."""
        raise NotImplementedError

    @staticmethod
    def _check_frozen_stages(frozen_stages: int, num_stages: int) -> int:
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages={frozen_stages}: expected -1 to {num_stages}')
        return frozen_stages

    def _frozen(self) -> list[nn.Module]:
        """The modules that are not trained."""
        if self.frozen_stages < 0:
            return []
        embedding, stages = self._embedding_and_stages()
        norms = [getattr(self, f'outnorm{i}') for i in self.out_indices if i < self.frozen_stages]
        return [embedding, *stages[: self.frozen_stages], *norms]

    def _freeze_stages(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Switch between training and evaluation; frozen blocks are never dropped."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self
