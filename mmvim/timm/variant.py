"""A backbone under a name that timm has for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import nn

from mmvim.errors import UserTypeError
from mmvim.models.backbones.base import Backbone
from mmvim.models.backbones.staged import StagedBackbone
from mmvim.models.layers import check_images
from mmvim.names import hint

_STRIDE = _PATCH = 16  # of plain backbones whose arch does not say


@dataclass(frozen=True)
class Variant:
    """What builds the backbone of a name.

    Attributes:
        name: That timm has for it.
        backbone: Its class.
        settings: Its arch.
        class_token: Whether the published classifier has a class token.
        norm: Of the published classifier's last map, from its channels, if that is not the backbone's own kind of norm.
        options: Arguments without which the published weights mean something else.
    """

    name: str
    backbone: type[Backbone]
    settings: dict[str, Any]
    class_token: bool = False
    norm: Callable[[int], nn.Module] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> set[str]:
        """Names of the backbone's arguments."""
        return set(signature(self.backbone.__init__).parameters) - {'self', 'arch', 'init_cfg'}

    def arch(self, options: dict[str, Any]) -> dict[str, Any]:
        """The settings, changed by those of ``options`` that are settings; these are taken out of it."""
        known = self.backbone.required | self.backbone.optional
        return self.settings | {key: options.pop(key) for key in known & set(options)}

    def build(
        self, arch: dict[str, Any], in_chans: int, img_size: int | Sequence[int] | None, options: dict[str, Any]
    ) -> Backbone:
        """The backbone with random weights.

        Args:
            arch: From :meth:`arch`.
            in_chans: Channels of the image.
            img_size: Side, or (height, width), that a position embedding is made for; None for the backbone's default.
            options: The backbone's other arguments.

        Raises:
            ValueError: If images of ``img_size`` are smaller than a patch, or arguments do not fit each other.
            TypeError: If it has no such argument.
        """
        unknown = sorted(set(options) - self.parameters)
        if unknown:
            known = self.parameters | self.backbone.required | self.backbone.optional
            raise UserTypeError(f'{self.name} takes no {unknown[0]}={options[unknown[0]]!r}{hint(unknown[0], known)}')
        options = {'in_channels': in_chans, **self.options, **options}
        size = (img_size,) * 2 if isinstance(img_size, int) else img_size and tuple(img_size)
        if size and 'pretrain_img_size' in self.parameters:
            options['pretrain_img_size'] = size
        backbone = self.backbone(arch, **options)
        if size:
            smallest = backbone.smallest_side if 'depths' in arch else arch.get('patch_size', 1)
            check_images(torch.empty(1, in_chans, *size, device='meta'), in_chans, smallest)
        return backbone


def count(arch: dict[str, Any]) -> int:
    """Number of outputs that a backbone of this arch can give."""
    return len(arch['depths']) if 'depths' in arch else arch['depth']


def stride(arch: dict[str, Any]) -> int:
    """Pixels from place to place of the last map."""
    return 2 ** (count(arch) + 1) if 'depths' in arch else arch.get('patch_stride', _STRIDE)


def grid(arch: dict[str, Any], side: int) -> tuple[int, int]:
    """Rows and columns of the last map of an image of ``side`` x ``side`` pixels."""
    beyond = 0 if 'depths' in arch else arch.get('patch_size', _PATCH) - stride(arch)
    return ((side - beyond) // stride(arch),) * 2


def outputs(backbone: Backbone, prefix: str) -> list[dict[str, Any]]:
    """timm's description of each output: channels, stride, and the module behind which it is taken."""
    if isinstance(backbone, StagedBackbone):
        numbers = [(channels, 4 * 2**i) for i, channels in enumerate(backbone.dims)]
        name = backbone.stages_name
    else:
        numbers = [(backbone.embed_dims, backbone.patch_embed.stride)] * backbone.depth
        name = backbone.blocks_name
    return [
        {'num_chs': channels, 'reduction': reduction, 'module': f'{prefix}{name}.{i}'}
        for i, (channels, reduction) in enumerate(numbers)
    ]


def cut(backbone: Backbone, last: int) -> None:
    """Remove what stands behind an output, so that every parameter has a gradient."""
    staged = isinstance(backbone, StagedBackbone)
    name = backbone.stages_name if staged else backbone.blocks_name
    parts = getattr(backbone, name)[: last + 1]
    setattr(backbone, name, parts)
    if staged and backbone.downsample_at_end:
        parts[-1].downsample = None
