"""A backbone and what timm's models have besides; the kind of model that gives maps."""

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import FeatureInfo
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mmvim.checkpoints import load_backbone
from mmvim.errors import UserValueError
from mmvim.models.backbones.base import Backbone

from .variant import Variant, count, cut, outputs

BACKBONE = 'backbone.'


class Wrapper(nn.Module):
    """What timm asks of every model.

    Args:
        backbone: Of mmvim.
        in_chans: Channels of the image.
    """

    def __init__(self, backbone: Backbone, in_chans: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_chans = in_chans
        self.grad_checkpointing = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training computes each block again in the backward pass, to save memory."""
        self.grad_checkpointing = enable
        for module in self.modules():
            if hasattr(module, 'with_cp'):
                module.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters that have none besides norms and biases, which timm leaves out by itself."""
        return {name for name, parameter in self.named_parameters() if getattr(parameter, '_no_weight_decay', False)}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """From the name of a parameter to its layer for layer-wise decay: the same layers as mmvim's own optimizer.

        Args:
            coarse: Whether layers are stages, where there are stages, and not blocks.
        """
        depths = getattr(self.backbone, 'depths', None) if coarse else None
        ends = [sum(depths[: i + 1]) for i in range(len(depths))] if depths else None

        def layer_of(name: str) -> int:
            layer, layers = self.backbone.get_layer_depth(name, BACKBONE)
            if ends is None or layer == 0:
                return layer
            if layer == layers - 1:
                return 1 + len(ends)
            return 1 + next(i for i, end in enumerate(ends) if layer <= end)

        return layer_of


class Features(Wrapper):
    """What ``features_only=True`` gives: the backbone as it is in a config of OpenMMLab, its maps in a list.

    Args:
        variant: What to build.
        out_indices: Stages or blocks whose output is returned; a number for that many last ones. By default all stages,
            or four blocks at even distances.
        in_chans: Channels of the image.
        img_size: Side, or (height, width), that a position embedding is made for.
        options: Other arguments of the backbone, and settings of its arch.

    Raises:
        ValueError, TypeError: If they do not fit the backbone.
    """

    def __init__(
        self,
        variant: Variant,
        out_indices: int | Sequence[int] | None = None,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        arch = variant.arch(options)
        number = count(arch)
        if out_indices is None:
            parts = number if 'depths' in arch else min(4, number)
            out_indices = [number * (i + 1) // parts - 1 for i in range(parts)]
        wanted = sorted(set(taken(number, out_indices)[0]))
        super().__init__(variant.build(arch, in_chans, img_size, {**options, 'out_indices': wanted}), in_chans)
        self.variant = variant
        self.feature_info = FeatureInfo(outputs(self.backbone, BACKBONE), tuple(wanted))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, in_chans, H, W) to maps (B, C_i, H_i, W_i), in the order in which they are computed."""
        return list(self.backbone(x))

    def load_pretrained(self, source: str) -> None:
        """Fill the backbone, timm's way to our reader; see :func:`mmvim.checkpoints.load_backbone`."""
        expected = self.backbone.expected_missing
        load_backbone(self.backbone, source, expected_missing=expected, inflate_input=self.in_chans != 3)

    def prune(self) -> None:
        """Remove what stands behind the last map. Files have it, so they are read before."""
        cut(self.backbone, self.backbone.out_indices[-1])


def taken(number: int, indices: int | Sequence[int] | None) -> tuple[list[int], int]:
    """timm's reading of indices: the outputs meant, and the largest of them."""
    try:
        return feature_take_indices(number, indices)
    except AssertionError as error:
        raise UserValueError(f'out_indices {indices}: {error}; the outputs are numbered 0 to {number - 1}') from error
