"""Backbones of stages of falling resolution."""

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

from torch import Tensor, nn

from mmvim.models.layers import check_images, drop_path_rates

from .base import Backbone, run_block


class Stage(nn.Module):
    """Blocks of one resolution.

    Args:
        with_cp (bool): Whether to compute each block again in the backward pass.

    Attributes:
        blocks: Set by the subclass.
        downsample: What leads to these blocks or from them to the next stage, which :meth:`forward` leaves to the
            backbone; set by the subclass.
    """

    blocks: nn.ModuleList
    downsample: nn.Module | None

    def __init__(self, with_cp: bool) -> None:
        super().__init__()
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        # The sum over all blocks is kept in the dtype of the parameters: fp32 under autocast.
        x = x.to(next(self.blocks.parameters()).dtype)
        for block in self.blocks:
            x = run_block(self, block, x)
        return x


class StagedBackbone(Backbone):
    """Maps at strides 4, 8, 16, 32, kept channel-last; every output has a norm ``outnorm{i}`` of its own.

    Args:
        dims (Sequence[int]): Channels of each stage.
        depths (Sequence[int]): Blocks of each stage.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned; those behind the last are not computed.
        frozen_stages (int): Stages that are not trained, the embedding included: -1 none, 0 the embedding only, n the
            first n stages with their outputs' norms too.
        init_cfg (dict | list[dict] | None): See :meth:`Backbone.init_weights`.

    Attributes:
        embedding_name: Name of the module that makes the first map (B, H / 4, W / 4, C) of an image (B, H, W, 3).
        stages_name: Name of the list of :class:`Stage`.
        downsample_at_end: Whether a stage's ``downsample`` stands behind its blocks, not in front of them.
        smallest_side: Pixels that an image must have in each direction.
    """

    expected_missing: ClassVar[tuple[str, ...]] = ('outnorm*',)
    embedding_name: ClassVar[str]
    stages_name: ClassVar[str]
    downsample_at_end: ClassVar[bool]
    smallest_side: int = 1

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        in_channels: int,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        self.dims, self.depths = tuple(dims), tuple(depths)
        self.in_channels = in_channels
        self.out_indices = self._resolve_out_indices(out_indices, len(self.depths), 'stages')
        self.frozen_stages = self._check_frozen_stages(frozen_stages, len(self.depths))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C_i, H_i, W_i) per ``out_indices``, at strides 4, 8, 16, 32.

        Raises:
            ValueError: If the image has other channels or is too small.
        """
        check_images(image, self.in_channels, self.smallest_side)
        x = getattr(self, self.embedding_name)(image.permute(0, 2, 3, 1).contiguous())
        stages = self.used_stages()
        outs = []
        for i, stage in enumerate(stages):
            if i or not self.downsample_at_end:
                x = stages[i - self.downsample_at_end].downsample(x)
            x = stage(x)
            if i in self.out_indices:
                outs.append(getattr(self, f'outnorm{i}')(x).permute(0, 3, 1, 2).contiguous())
        return tuple(outs)

    def embedding(self) -> tuple[nn.Module, int, int]:
        """See :meth:`Backbone.embedding`."""
        return getattr(self, self.embedding_name), self.dims[0], 4

    def used_stages(self) -> list[nn.Module]:
        """See :meth:`Backbone.used_stages`."""
        return list(getattr(self, self.stages_name)[: self.out_indices[-1] + 1])

    def maps(self) -> list[tuple[int, int]]:
        """See :meth:`Backbone.maps`."""
        return [(self.dims[i], 4 * 2**i) for i in self.out_indices]

    def _drop_path_rates(self, rate: float) -> list[list[float]]:
        """Rates of the blocks of each stage, rising over all of them."""
        rates = iter(drop_path_rates(rate, sum(self.depths)))
        return [list(islice(rates, depth)) for depth in self.depths]

    def _add_outnorms(self, eps: float, out_norm: bool) -> None:
        for i in self.out_indices:
            self.add_module(f'outnorm{i}', nn.LayerNorm(self.dims[i], eps=eps) if out_norm else nn.Identity())

    def _num_blocks(self) -> int:
        return sum(self.depths)

    def _depth_of(self, name: str) -> int | None:
        if name.startswith(f'{self.embedding_name}.'):
            return 0
        if not name.startswith(f'{self.stages_name}.'):
            return None
        _, stage, part, block, *_ = name.split('.')
        before = sum(self.depths[: int(stage)])
        if part == 'downsample':
            return before + self.depths[int(stage)] if self.downsample_at_end else before
        return before + int(block) + 1

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        if self.frozen_stages < 0:
            return []
        norms = [getattr(self, f'outnorm{i}') for i in self.out_indices if i < self.frozen_stages]
        stages = getattr(self, self.stages_name)[: self.frozen_stages]
        return [getattr(self, self.embedding_name), *stages, *norms]
