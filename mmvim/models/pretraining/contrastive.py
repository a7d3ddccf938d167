"""The loss that pulls an image and its text together and pushes all others of the batch away."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from mmvim.errors import UserValueError


def gather(features: Tensor) -> Tensor:
    """Features (B, C) of every process, one after the other, (processes * B, C); gradients flow back to each.

    All processes have the same B.
    """
    return torch.cat(all_gather(features)) if get_world_size() > 1 else features


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy: which text belongs to an image, and which image to a text.

    Every process compares its own images and texts with those of all. The mean over the processes is the loss of the
    whole batch, and so are the mean gradients, which is what distributed training takes.

    Args:
        images: Features (B, C) of length 1.
        texts: Those of their texts.
        scale: What cosines are multiplied by, a number.

    Returns:
        The loss, a number.

    Raises:
        ValueError: If the whole batch is one image, which has no other to be told from.
    """
    count = len(images)
    if count * get_world_size() < 2:
        raise UserValueError(
            'a batch of one image and its text has nothing to be told from: set train_dataloader.batch_size to 2 or '
            'more, better hundreds, and drop_last=True there'
        )
    targets = torch.arange(count, device=images.device) + count * get_rank()
    # The logits are large, and their differences count: not in the type of mixed precision.
    with torch.autocast(images.device.type, enabled=False):
        images, texts, scale = images.float(), texts.float(), scale.float()
        to_texts = scale * images @ gather(texts).T
        to_images = scale * texts @ gather(images).T
        return (F.cross_entropy(to_texts, targets) + F.cross_entropy(to_images, targets)) / 2
