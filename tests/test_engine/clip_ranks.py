"""Two processes with half of a batch of images and captions each: ``python clip_ranks.py FOLDER``.

Each rank writes the loss and the gradients of its CLIP to ``FOLDER/rank_N.pth``; a single process, for the whole batch,
to ``FOLDER/single.pth``.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import BaseDataElement
from test_engine.toy_ranks import free_port

from mmvim.engine import set_up_cpu
from mmvim.models import CLIP

CAPTIONS = ['a boat on water', 'two dogs', 'a car on a road before houses', 'an airplane under a wide sky']
BACKBONES = {
    'plain': {
        'type': 'mmvim.Vim', 'pretrain_img_size': 32, 'final_norm': True,
        'arch': {'embed_dims': 16, 'depth': 2, 'patch_size': 8, 'patch_stride': 8},
    },
    'staged': {'type': 'mmvim.VMamba', 'out_indices': 1, 'arch': {'embed_dims': 16, 'depths': (1, 1)}},
}  # fmt: skip


def loss_and_gradients(kind: str, numbers: Sequence[int], distributed: bool) -> dict:
    """Of one forward and backward pass over the images and captions of these numbers."""
    torch.manual_seed(1)
    model = CLIP(BACKBONES[kind], text={'dims': 16, 'depth': 1, 'num_heads': 2}, embed_dims=8)
    images = torch.randn(len(CAPTIONS), 3, 32, 32)
    samples = [BaseDataElement(metainfo={'captions': [CAPTIONS[i]]}) for i in numbers]
    wrapped = MMDistributedDataParallel(model) if distributed else model
    loss, _ = model.parse_losses(wrapped(images[list(numbers)], samples, mode='loss'))
    loss.backward()
    return {'loss': loss.detach(), 'gradients': {name: p.grad.clone() for name, p in model.named_parameters()}}


def rank(number: int, folder: Path) -> None:
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE='2')
    set_up_cpu(Config({'model': {}}), 'pytorch')
    halves = {0: range(2), 1: range(2, 4)}
    torch.save(
        {kind: loss_and_gradients(kind, halves[number], True) for kind in BACKBONES}, folder / f'rank_{number}.pth'
    )


if __name__ == '__main__':
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    folder = Path(sys.argv[1])
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            rank(number, folder)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    torch.save({kind: loss_and_gradients(kind, range(4), False) for kind in BACKBONES}, folder / 'single.pth')
    sys.exit(max(statuses) != 0)
