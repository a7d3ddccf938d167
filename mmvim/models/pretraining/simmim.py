"""Masked-image modelling in SimMIM's form."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmvim.errors import UserTypeError, UserValueError
from mmvim.models.backbones.base import Backbone
from mmvim.registry import MODELS

from .masks import draw_masks, enlarge


@MODELS.register_module()
class SimMIM(BaseModel):
    """A backbone that learns to tell the colours of hidden parts of images, for any backbone of mmvim.

    A PyTorch implementation of `SimMIM <https://arxiv.org/abs/2111.09886>`_: a learned token takes the place of what
    the patch embedding makes of hidden squares, one linear layer makes pixels of the last map, and the loss is their
    L1 distance to the normalised image, over the hidden pixels alone.

    Hidden pixels are set to 0, the mean colour, as well: the embeddings of several convolutions, and adapters, which
    look at the image themselves, would see into the hidden squares from beside them. With patches side by side, as the
    paper has them, this changes nothing.

    A checkpoint's ``backbone.*`` goes on into any config by ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        backbone (dict): A backbone of mmvim with one output, a map.
        mask_patch_size (int): Side of a hidden square in pixels, a multiple of the stride of the last map.
        mask_ratio (float): Part of the squares that is hidden, between 0 and 1.
        data_preprocessor (dict | None): As for any model of mmengine; it normalises.
        init_cfg (dict | None): As for any module of mmengine.

    Raises:
        TypeError: If the backbone is of another package.
        ValueError: If arguments do not fit each other.
    """

    def __init__(
        self,
        backbone: dict,
        mask_patch_size: int = 32,
        mask_ratio: float = 0.6,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if not 0 < mask_ratio < 1:
            raise UserValueError(f'mask_ratio={mask_ratio}: expected a number between 0 and 1, such as 0.6')
        self.backbone = MODELS.build(backbone)
        if not isinstance(self.backbone, Backbone):
            raise UserTypeError(
                f"SimMIM: expected a backbone of mmvim, such as dict(type='mmvim.VMamba'), got {backbone['type']!r}"
            )
        maps = self.backbone.maps()
        if len(maps) != 1:
            raise UserValueError(
                f'SimMIM: expected a backbone with one output, a map, got one with {len(maps)} maps; set its '
                "out_indices to the last stage or block alone, and leave out_type at 'featmap'"
            )
        _, dims, self.token_stride = self.backbone.embedding()
        ((channels, self.map_stride),) = maps
        if mask_patch_size < 1 or mask_patch_size % self.map_stride:
            raise UserValueError(
                f'mask_patch_size={mask_patch_size}: expected a multiple of {self.map_stride}, the stride of the '
                "backbone's last map"
            )
        self.mask_patch_size, self.mask_ratio = mask_patch_size, mask_ratio
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(dims), std=0.02))
        image_channels = self.backbone.get_parameter(self.backbone.input_weight).shape[1]
        self.decoder = nn.Conv2d(channels, self.map_stride**2 * image_channels, 1)

    def forward(
        self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        """
        Args:
            inputs: Normalised images (B, C, H, W).
            data_samples: Not used.
            mode: ``'loss'`` for the loss, ``'tensor'`` for what it is computed from.

        Returns:
            ``dict(loss=...)``; or the predicted images (B, C, h, w), and masks (B, h, w) of bool that are True where
            pixels were hidden. They have the size of the images, less what the backbone leaves out at the right and
            at the bottom.

        Raises:
            ValueError: If the images are smaller than a hidden square.
        """
        height, width = inputs.shape[2:]
        squares = draw_masks(len(inputs), height, width, self.mask_patch_size, self.mask_ratio, inputs.device)
        masks = enlarge(squares, self.mask_patch_size, height, width)
        embedding, _, _ = self.backbone.embedding()
        with embedding.register_forward_hook(partial(self._hide, squares)):
            features = self.backbone(inputs.masked_fill(masks[:, None], 0))[-1]
        predicted = F.pixel_shuffle(self.decoder(features), self.map_stride)[:, :, :height, :width]
        masks = masks[:, : predicted.shape[2], : predicted.shape[3]]
        if mode == 'tensor':
            return predicted, masks
        distance = (predicted.float() - inputs[:, :, : masks.shape[1], : masks.shape[2]].float()).abs()
        hidden = masks[:, None].expand_as(distance)
        return {'loss': (distance * hidden).sum() / hidden.sum()}

    def _hide(self, squares: Tensor, module: nn.Module, args: Any, output: Any) -> Any:
        """The output of an embedding, a map (B, h, w, C) or tokens (B, h * w, C) and their grid, with masked tokens."""
        x, grid = output if isinstance(output, tuple) else (output, output.shape[1:3])
        hidden = enlarge(squares, self.mask_patch_size // self.token_stride, *grid).reshape(*x.shape[:-1], 1)
        x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        return (x, grid) if isinstance(output, tuple) else x
