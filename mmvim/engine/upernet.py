"""UPerNet's last convolution over maps that were enlarged, without computing it where nothing new stands.

UPerNet (https://arxiv.org/abs/1807.10221) enlarges all levels of its pyramid to the finest and runs a 3 x 3 convolution
over their concatenation: three quarters of the multiplications of the whole head, for its smaller levels of which 4, 16
and 64 pixels are interpolated from the same few. A convolution is a sum over its taps, each a 1 x 1 convolution that is
shifted; a 1 x 1 convolution and an interpolation can change places, as the former mixes channels alone and the latter
pixels alone, both linearly. So the taps run on the small map, and shift and interpolation are one matrix for the rows
and one for the columns.
"""

from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split_last_convolution(model: nn.Module) -> None:
    """Have every ``UPerHead`` of mmseg compute its last convolution level by level; results differ by rounding.

    Args:
        model: In eval mode, its batch norms folded (:func:`~.folding.fold_batch_norms`); changed in place.
    """
    for module in model.modules():
        if _is_upernet(module):
            module._forward_feature = MethodType(_forward_feature, module)


def _is_upernet(module: nn.Module) -> bool:
    """mmseg's head, with the convolution that the sum over levels is made for."""
    block = getattr(module, 'fpn_bottleneck', None)
    conv = getattr(block, 'conv', None)
    return (
        type(module).__name__ == 'UPerHead'
        and type(conv) is nn.Conv2d
        and isinstance(getattr(block, 'norm', None), (nn.Identity, type(None)))
        and (conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
        == (tuple(side // 2 for side in conv.kernel_size), (1, 1), (1, 1), 1, 'zeros')
        and all(side % 2 for side in conv.kernel_size)
    )


def _forward_feature(self: nn.Module, inputs: list[Tensor]) -> Tensor:
    """What ``UPerHead._forward_feature`` gives: maps of a pyramid to one map (B, C, H, W) of the finest one's size."""
    inputs = self._transform_inputs(inputs)
    maps = [lateral(x) for lateral, x in zip(self.lateral_convs, inputs, strict=False)]
    maps.append(self.psp_forward(inputs))
    for finer, coarser in zip(range(len(maps) - 2, -1, -1), range(len(maps) - 1, 0, -1), strict=True):
        larger = F.interpolate(maps[coarser], maps[finer].shape[2:], mode='bilinear', align_corners=self.align_corners)
        maps[finer] = maps[finer] + larger
    # The coarsest map is that of the pooling pyramid, which has no convolution of its own.
    maps = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=False)] + maps[-1:]
    block = self.fpn_bottleneck
    weights = block.conv.weight.split([x.shape[1] for x in maps], dim=1)
    total = F.conv2d(maps[0], weights[0], block.conv.bias, padding=block.conv.padding)
    for x, weight in zip(maps[1:], weights[1:], strict=True):
        total = add_convolved_enlarged(total, x, weight, self.align_corners)
    return block.activate(total) if block.with_activation else total


def add_convolved_enlarged(total: Tensor, x: Tensor, weight: Tensor, align_corners: bool) -> Tensor:
    """``total + conv2d(interpolate(x, size of total, mode='bilinear'), weight)``, padded to keep the size.

    Args:
        total: (B, O, H, W); its memory may be taken for the result.
        x: (B, C, h, w).
        weight: (O, C, m, n), both sides odd.
        align_corners: Of the interpolation.

    Returns:
        (B, O, H, W), channel-last in memory.
    """
    batch, _, h, w = x.shape
    out, channels, m, n = weight.shape
    H, W = total.shape[2:]
    taps = weight.permute(2, 1, 3, 0).reshape(m, channels, n * out)
    # The products of all taps: for every row of taps and of pixels, and every pixel in it, the taps of that row.
    products = torch.matmul(x.permute(0, 2, 3, 1).reshape(batch, 1, h * w, channels), taps)  # (B, m, h * w, n * out)
    rows = _shifted_interpolation(h, H, m, align_corners, x).flatten(1)  # (H, m * h)
    columns = _shifted_interpolation(w, W, n, align_corners, x).transpose(1, 2).flatten(1)  # (W, w * n)
    products = torch.matmul(rows, products.view(batch, m * h, w * n * out))
    total = total.permute(0, 2, 3, 1).reshape(batch * H, W, out)
    # In place, which autocast leaves alone: it needs all three of one dtype.
    columns = columns.to(total.dtype).expand(batch * H, -1, -1)
    total.baddbmm_(columns, products.view(batch * H, w * n, out).to(total.dtype))
    return total.view(batch, H, W, out).permute(0, 3, 1, 2)


def _shifted_interpolation(short: int, long: int, taps: int, align_corners: bool, like: Tensor) -> Tensor:
    """(long, taps, short): the weight of a pixel for another one of the enlarged side, seen through a tap there."""
    unit = torch.eye(short, device=like.device)[None]
    enlarged = F.interpolate(unit, long, mode='linear', align_corners=align_corners)[0].T  # (long, short)
    # Beside the enlarged side stands the zero of the padding.
    padded = F.pad(enlarged, (0, 0, taps // 2, taps // 2))
    return padded.unfold(0, taps, 1).transpose(1, 2).contiguous()
