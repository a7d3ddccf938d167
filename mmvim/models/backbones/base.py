"""What all backbones do in the same way: variants, outputs, frozen parts, depth of a parameter, weights from files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmvim.errors import UserTypeError, UserValueError


class Backbone(nn.Module):
    """A module with named variants, whose outputs are chosen by number and whose weights may come from a file.

    Initialised as mmengine's modules are, without being one: importing those takes as long as torch itself.

    Args:
        init_cfg (dict | list[dict] | None): See :meth:`init_weights`.

    Attributes:
        arch_zoo: Settings of the published variants by name.
        required: Keys that an arch dict must have.
        optional: Keys that it may have.
        expected_missing: Tensors that a ``Pretrained`` file need not have, as patterns.
        input_weight: Name of the weight (C, in_channels, h, w) of the convolution that sees the image.
    """

    arch_zoo: ClassVar[dict[str, dict]]
    required: ClassVar[set[str]]
    optional: ClassVar[set[str]]
    expected_missing: ClassVar[tuple[str, ...]] = ()
    input_weight: ClassVar[str | None] = None

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Backbone':
        # mmseg's models put their own `pretrained` into the arguments of the backbone.
        if 'pretrained' in kwargs and 'pretrained' not in signature(cls.__init__).parameters:
            raise UserTypeError(
                f'{cls.__name__} takes no pretrained={kwargs["pretrained"]!r}, which mmseg hands on from '
                'model.pretrained: set pretrained=None in the model, and in its backbone '
                "init_cfg=dict(type='Pretrained', checkpoint=...), or init_cfg=None to train from scratch"
            )
        return super().__new__(cls)

    def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__()
        self.init_cfg = deepcopy(init_cfg)
        self.is_init = False  # asked by the mmengine module around it

    def init_weights(self) -> None:
        """Initialise as mmengine does; a ``Pretrained`` file is read without running code and must fit.

        ``init_cfg`` is a dict or a list of them. Files are read last, whatever their place in the list. Beside
        ``checkpoint`` there may be ``prefix``, ``key`` and ``inflate_input``, as for
        :func:`mmvim.checkpoints.load_backbone`.

        Raises:
            TypeError: If ``init_cfg`` is something else.
        """
        # What only those need that initialise is imported here, not by everybody who imports models.
        given = self.init_cfg
        entries = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
        if not all(isinstance(entry, dict) and 'type' in entry for entry in entries):
            raise UserTypeError(f'init_cfg: expected a dict with a type, or a list of such, got {given!r}')
        files = [entry for entry in entries if _name(entry['type']) in ('Pretrained', 'PretrainedInit')]
        others = [entry for entry in entries if entry not in files]
        if others and not self.is_init:
            from mmengine.model import initialize

            initialize(self, others)
        for part in self.children():  # none of ours has one; somebody's subclass may
            if hasattr(part, 'init_weights') and not getattr(part, 'is_init', False):
                part.init_weights()
        if files:
            from mmvim.checkpoints import load_backbone

            for entry in files:
                options = {key: entry[key] for key in ('prefix', 'key', 'inflate_input') if key in entry}
                load_backbone(self, entry['checkpoint'], expected_missing=self.expected_missing, **options)
        self.is_init = True

    def adapt_weights(self, found: dict[str, Tensor]) -> list[str]:
        """Bring the weights in a file, of any variant, into the form that this backbone has them in, in place.

        Args:
            found: By the names that this backbone has for them.

        Returns:
            What was done, in words.

        Raises:
            ValueError: If that cannot be, with the reason.
        """
        return []

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name: Name in the whole model.
            prefix: What stands in front of this backbone's own names, such as ``'backbone.'``.

        Returns:
            The layer, 0 for what makes tokens or the first map of an image, i + 1 for block i, counted through all
            stages, a downsampling with the block before it, the last one for everything else; and the number of layers.
        """
        num_layers = self._num_blocks() + 2
        depth = self._depth_of(param_name.removeprefix(prefix)) if param_name.startswith(prefix) else None
        return (num_layers - 1 if depth is None else depth), num_layers

    def train(self, mode: bool = True) -> 'Backbone':
        """Switch between training and evaluation; in frozen parts nothing is dropped."""
        super().train(mode)
        for part in self._frozen():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def embedding(self) -> tuple[nn.Module, int, int]:
        """What makes the first map (B, h, w, C) of an image, or its tokens (B, h * w, C) and the grid (h, w).

        Returns:
            The module, the channels C, and the pixels from one place to the next.
        """
        raise NotImplementedError

    def maps(self) -> list[tuple[int, int]]:
        """Channels of each output that is a map, and the pixels from one place of it to the next."""
        raise NotImplementedError

    def used_stages(self) -> list[nn.Module]:
        """The stages, or the blocks of a plain backbone, up to the last output."""
        raise NotImplementedError

    def outlets(self) -> list[nn.Module]:
        """For each of :meth:`used_stages` the module whose output goes on: a map (B, h, w, C) or tokens (B, L, C)."""
        return self.used_stages()

    def _num_blocks(self) -> int:
        raise NotImplementedError

    def _depth_of(self, name: str) -> int | None:
        """The layer of one of this backbone's own parameters as in :meth:`get_layer_depth`; None for the last one."""
        raise NotImplementedError

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        """What is not trained."""
        raise NotImplementedError

    def _freeze(self) -> None:
        for part in self._frozen():
            part.requires_grad_(False)

    @classmethod
    def _resolve_arch(cls, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch.lower() not in cls.arch_zoo:
                raise UserValueError(f'arch {arch!r}: expected one of {", ".join(cls.arch_zoo)}, or a dict')
            return cls.arch_zoo[arch.lower()]
        missing, unknown = cls.required - set(arch), set(arch) - cls.required - cls.optional
        if missing or unknown:
            raise UserValueError(
                f'an arch dict needs {", ".join(sorted(cls.required))} and may have '
                f'{", ".join(sorted(cls.optional)) or "nothing else"}; '
                f'missing: {sorted(missing)}, unknown: {sorted(unknown)}'
            )
        return dict(arch)

    @staticmethod
    def _resolve_out_indices(out_indices: int | Sequence[int], count: int, parts: str) -> tuple[int, ...]:
        """Positive indices of the ``count`` blocks or stages (``parts``) whose output is wanted."""
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        positive = tuple(index + count if index < 0 else index for index in indices)
        if not positive or not all(0 <= index < count for index in positive):
            raise UserValueError(f'out_indices {out_indices}: the {count} {parts} are numbered 0 to {count - 1}')
        if len(set(positive)) < len(positive) or list(positive) != sorted(positive):
            raise UserValueError(f'out_indices {out_indices}: expected each of them once, in rising order')
        return positive

    @staticmethod
    def _check_frozen_stages(frozen_stages: int, count: int) -> int:
        if not -1 <= frozen_stages <= count:
            raise UserValueError(f'frozen_stages={frozen_stages}: expected -1 to {count}')
        return frozen_stages

    @staticmethod
    def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
        if value not in choices:
            raise UserValueError(f'{name}={value!r}: expected one of {", ".join(map(repr, choices))}')
        return value


def run_block(owner: nn.Module, block: nn.Module, *inputs: Any) -> Tensor:
    """``block(*inputs)``, in training computed again by the backward pass if ``owner.with_cp`` asks for it."""
    if owner.with_cp and owner.training and torch.is_grad_enabled():
        norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
        # Otherwise computing again would count the batch twice.
        options = {'context_fn': lambda: (nullcontext(), _statistics_kept(norms))} if norms else {}
        return checkpoint(block, *inputs, use_reentrant=False, **options)
    return block(*inputs)


@contextmanager
def _statistics_kept(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def _name(kind: str | type) -> str:
    return kind if isinstance(kind, str) else kind.__name__
