"""Two processes that train a small Vim-UPerNet on CPUs through mmengine's runner: ``python toy_ranks.py FOLDER``.

Each rank writes its loss, gradients and trained weights to ``FOLDER/rank_N.pth``; the same in a single process, without
training, goes to ``FOLDER/single.pth``.
"""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from test_engine.toy_run import config
from torch import nn

from mmvim.engine import set_up_cpu

IMAGES = 4
HEAD = {'num_classes': 3, 'norm_cfg': {'type': 'SyncBN', 'requires_grad': True}, 'dropout_ratio': 0.0}


def vim_config(work_dir: str, launcher: str) -> Config:
    cfg = config(work_dir, length=2, launcher=launcher)
    cfg.train_cfg.val_interval = 2
    cfg.custom_hooks = []
    cfg.param_scheduler = None
    cfg.model.backbone = {
        'type': 'mmvim.Vim',
        'arch': {'embed_dims': 16, 'depth': 4, 'patch_size': 8, 'patch_stride': 8},
        'pretrain_img_size': 32,
        'out_indices': (0, 1, 2, 3),
    }
    cfg.model.decode_head.update(HEAD, in_channels=[16] * 4)
    cfg.model.auxiliary_head = {'type': 'FCNHead', 'in_channels': 16, 'in_index': 2, 'channels': 8, **HEAD}
    set_up_cpu(cfg, launcher)
    return cfg


def batch(numbers: Sequence[int]) -> dict:
    """Images and labels of these numbers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (IMAGES, 1, 32, 32), generator=generator)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=labels[i]), metainfo={'img_shape': (32, 32), 'ori_shape': (32, 32)})
        for i in numbers
    ]
    return {'inputs': [images[i] for i in numbers], 'data_samples': samples}


def loss_and_gradients(runner: Runner, numbers: Sequence[int]) -> dict:
    """Of one forward and backward pass, with the statistics of batch norms held fixed."""
    wrapped = runner.model
    model = getattr(wrapped, 'module', wrapped)
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3)
    model.train()
    norms = [module.eval() for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and not any(isinstance(module, nn.SyncBatchNorm) for module in norms)
    data = model.data_preprocessor(batch(numbers), training=True)
    loss, _ = model.parse_losses(wrapped(**data, mode='loss'))
    loss.backward()
    return {'loss': loss.detach(), 'gradients': {name: p.grad.clone() for name, p in model.named_parameters()}}


def rank(number: int, folder: Path) -> None:
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE='2')
    runner = Runner.from_cfg(vim_config(str(folder / 'run'), 'pytorch'))
    mine = range(number, IMAGES, 2)
    found = loss_and_gradients(runner, mine)
    runner.model.zero_grad()
    runner.train()
    found['weights'] = runner.model.module.state_dict()
    torch.save(found, folder / f'rank_{number}.pth')


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


if __name__ == '__main__':
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=False)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    folder = Path(sys.argv[1])
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            rank(number, folder)
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    runner = Runner.from_cfg(vim_config(str(folder / 'single_run'), 'none'))
    torch.save(loss_and_gradients(runner, range(IMAGES)), folder / 'single.pth')
    sys.exit(max(statuses) != 0)
