"""What all backbones do in the same way: names of variants, choice of outputs, weights from files."""

from collections.abc import Sequence
from typing import ClassVar

from mmengine.model import BaseModule

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
