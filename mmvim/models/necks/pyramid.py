"""From the one map of a plain backbone to the pyramid that dense heads expect."""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import LayerNorm2d
from mmvim.registry import MODELS


@MODELS.register_module()
class DeconvPyramid(BaseModule):
    """Four maps of one stride to strides 4, 8, 16 and 32, as BEiT and Vim's segmentation models do it.

    Each level has its own input, such as four depths of the backbone; a single input serves all levels. Deconvolutions
    enlarge, max pooling shrinks, the number of channels stays.

    Args:
        in_channels (int): C, channels of the inputs and outputs.
        patch_stride (int): Stride of the inputs in pixels, 16 or 8.
        norm_cfg (dict): Norm between the two deconvolutions of the finest level.
        init_cfg (dict | None): See mmengine's BaseModule.

    Raises:
        ValueError: If ``patch_stride`` is neither 16 nor 8.
    """

    def __init__(
        self, in_channels: int, patch_stride: int = 16, norm_cfg: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)

        def double() -> nn.Module:
            return nn.ConvTranspose2d(in_channels, in_channels, 2, 2)

        if patch_stride == 16:
            norm = build_norm_layer(norm_cfg or {'type': 'SyncBN', 'requires_grad': True}, in_channels)[1]
            self.fpn1 = nn.Sequential(double(), norm, nn.GELU(), double())
            self.fpn2 = nn.Sequential(double())
            self.fpn3 = nn.Identity()
            self.fpn4 = nn.MaxPool2d(2)
        elif patch_stride == 8:
            self.fpn1 = nn.Sequential(double())
            self.fpn2 = nn.Identity()
            self.fpn3 = nn.MaxPool2d(2)
            self.fpn4 = nn.MaxPool2d(4)
        else:
            raise UserValueError(f'patch_stride={patch_stride}: expected 16 or 8')

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One or four maps (B, C, h, w) to four, the first at stride 4; a map of one pixel is not shrunk further.

        Raises:
            ValueError: If there are neither one nor four inputs.
        """
        if len(inputs) not in (1, 4):
            raise UserValueError(
                f'DeconvPyramid: expected 1 or 4 maps, got {len(inputs)}: check out_indices of the backbone'
            )
        inputs = tuple(inputs) * (4 // len(inputs))
        levels = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        return tuple(_apply(level, x) for level, x in zip(levels, inputs, strict=True))


def _apply(level: nn.Module, x: Tensor) -> Tensor:
    """``level(x)``, with a map too small to be pooled enlarged by its own last row and column first."""
    if isinstance(level, nn.MaxPool2d) and min(x.shape[-2:]) < level.kernel_size:
        down, right = (max(level.kernel_size - side, 0) for side in x.shape[-2:])
        x = F.pad(x, (0, right, 0, down), mode='replicate')
    return level(x)


class NormedConv2d(nn.Conv2d):
    """A convolution without bias that keeps the size, and a LayerNorm over its channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = LayerNorm2d(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """The simple feature pyramid of ViTDet (https://arxiv.org/abs/2203.16527): one map to strides 4, 8, 16, 32 and 64.

    Strides hold for an input at stride 16. Names of the parameters are those of the official detection models.

    Args:
        in_channels (int): C, channels of the input.
        out_channels (int): Channels of all outputs.
        num_outs (int): Number of outputs, 4 or 5; the fifth takes every second place of the fourth.
        init_cfg (dict | None): See mmengine's BaseModule.

    Raises:
        ValueError: If ``num_outs`` is neither 4 nor 5.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 256, num_outs: int = 5, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        if num_outs not in (4, 5):
            raise UserValueError(f'num_outs={num_outs}: expected 4 or 5')
        self.num_outs = num_outs

        def double(channels: int) -> nn.Module:
            return nn.ConvTranspose2d(channels, channels // 2, 2, 2)

        def project(channels: int) -> list[nn.Module]:
            return [NormedConv2d(channels, out_channels, 1), NormedConv2d(out_channels, out_channels, 3)]

        half = in_channels // 2
        self.simfp_2 = nn.Sequential(
            double(in_channels), LayerNorm2d(half, eps=1e-6), nn.GELU(), double(half), *project(half // 2)
        )
        self.simfp_3 = nn.Sequential(double(in_channels), *project(half))
        self.simfp_4 = nn.Sequential(*project(in_channels))
        self.simfp_5 = nn.Sequential(nn.MaxPool2d(2), *project(in_channels))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The last of ``inputs``, (B, C, h, w), to ``num_outs`` maps of ``out_channels`` channels, finest first."""
        x = inputs[-1]
        outs = [self.simfp_2(x), self.simfp_3(x), self.simfp_4(x)]
        outs.append(self.simfp_5[1:](_apply(self.simfp_5[0], x)))
        if self.num_outs == 5:
            outs.append(outs[-1][:, :, ::2, ::2])
        return tuple(outs)
