"""Batch norm over maps of one pixel, which needs more than one image."""

import os
from collections.abc import Iterator
from math import gcd

from mmengine.config import Config

from mmvim.errors import UserValueError

# Heads that pool whole maps to one pixel and normalise it, and the argument whose 1 stands for that, if it can be set.
POOLING_HEADS = {
    'APCHead': 'pool_scales',
    'ASPPHead': None,
    'DepthwiseSeparableASPPHead': None,
    'DMHead': 'filter_sizes',
    'PSPHead': 'pool_scales',
    'UPerHead': 'pool_scales',
}
DEFAULT_SCALES = (1, 2, 3, 6)


def pooled_norms(cfg: Config) -> Iterator[str]:
    """Keys of the heads whose batch norm sees one value per image and channel, such as ``'model.decode_head'``."""
    model = cfg.get('model') or {}
    processes = int(os.environ.get('WORLD_SIZE', 1))
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key)
        several = isinstance(heads, (list, tuple))
        for number, head in enumerate(heads if several else [heads]):
            if not isinstance(head, dict) or _name(head) not in POOLING_HEADS:
                continue
            scales = POOLING_HEADS[_name(head)]
            norm = (head.get('norm_cfg') or {}).get('type')
            # Among several processes SyncBN counts the images of all.
            together = norm in ('SyncBN', 'MMSyncBN') and processes > 1
            pools = scales is None or 1 in head.get(scales, DEFAULT_SCALES)
            if pools and norm in ('BN', 'BN2d', 'SyncBN', 'MMSyncBN') and not together:
                yield f'model.{key}.{number}' if several else f'model.{key}'


def _name(head: dict) -> str:
    kind = head.get('type')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


def _groups(cfg: Config, head: str) -> int:
    *way, last = head.split('.')
    head = cfg[way[0]][last] if len(way) == 1 else cfg[way[0]][way[1]][int(last)]
    return gcd(32, head.get('channels', 128) // 4)  # a group of one channel would see one value again


def check_pooled_norm(cfg: Config, images: int | None = None) -> None:
    """See that training never comes to a batch of one image where batch norm cannot do with one.

    Args:
        cfg: The config that is to be trained.
        images: Images that one process sees in an epoch; None if not known, or if there are no epochs.

    Raises:
        ValueError: With the heads, and the ways out.
    """
    loader = cfg.get('train_dataloader') or {}
    heads = list(pooled_norms(cfg))
    if not heads:
        return
    batch_size = loader.get('batch_size', 1)
    ways = ' '.join(f'{head}.norm_cfg.type=GN {head}.norm_cfg.num_groups={_groups(cfg, head)}' for head in heads)
    which = ' and '.join(heads)
    if batch_size == 1:
        raise UserValueError(
            f'train_dataloader.batch_size=1: the batch norm of {which} sees maps pooled to one pixel and needs two '
            f'images; --cfg-options train_dataloader.batch_size=2, or normalise otherwise: {ways}'
        )
    sampler = (loader.get('sampler') or {}).get('type', '')
    infinite = 'Infinite' in str(sampler)
    if images is not None and images % batch_size == 1 and not infinite and not loader.get('drop_last'):
        raise UserValueError(
            f'the last of {images} images is a batch by itself (train_dataloader.batch_size={batch_size}): the batch '
            f'norm of {which} sees maps pooled to one pixel and needs two images; --cfg-options '
            'train_dataloader.drop_last=True leaves it out.'
        )
