"""The first convolution of a model for RGB images, for images of other channels."""

from torch import Tensor

from mmvim.errors import UserValueError

_RGB = 3


def inflate_input(weight: Tensor, channels: int) -> Tensor:
    """Weights for other channels than RGB, as timm makes them.

    One channel gets the sum of the three; more get them in turn, times 3 / channels, such that a map of equal
    channels gives what it gave.

    Args:
        weight: (C, 3, h, w).
        channels: How many are wanted.

    Returns:
        (C, channels, h, w).

    Raises:
        ValueError: If the weights are not those for three channels.
    """
    if weight.dim() != 4 or weight.shape[1] != _RGB:
        shape = tuple(weight.shape)
        raise UserValueError(f'inflate_input makes weights of RGB ones (C, 3, h, w), the file has {shape}')
    full = weight.float()
    if channels == 1:
        return full.sum(1, keepdim=True).to(weight.dtype)
    turns = -(-channels // _RGB)
    return (full.repeat(1, turns, 1, 1)[:, :channels] * (_RGB / channels)).to(weight.dtype)
