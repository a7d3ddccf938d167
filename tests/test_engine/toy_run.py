"""Training runs of a small Vim with UPerNet, to be killed and resumed: ``python toy_run.py '[{"work_dir": ...}]'``.

Imports once, then forks one process per run, in order, and says which signal ended each. Tests call ``run_toys``.
"""

import json
import os
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  (this and dynamo: before the fork, once for all runs)
import mmengine.runner.runner
import numpy as np
import torch
import torch._dynamo
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmseg.utils import register_all_modules

from mmvim.engine.runner import Runner


@DATASETS.register_module()
class ToyImages(BaseDataset):
    """Six images of noise with labels by brightness."""

    METAINFO = {'classes': ('dark', 'middle', 'bright'), 'palette': [[0, 0, 0], [99, 99, 99], [255, 255, 255]]}

    def load_data_list(self) -> list[dict]:
        rng = np.random.RandomState(0)
        images = [rng.randint(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(6)]
        return [
            {
                'img': image,
                'gt_seg_map': image[..., 0] // 86,
                'seg_fields': ['gt_seg_map'],
                'img_shape': image.shape[:2],
                'ori_shape': image.shape[:2],
            }
            for image in images
        ]


@HOOKS.register_module()
class KillHook(Hook):
    """End the process after an iteration, as ``kill -9`` does."""

    priority = 'LOWEST'

    def __init__(self, after: int) -> None:
        self.after = after

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.after:
            os.kill(os.getpid(), signal.SIGKILL)


AUGMENT = [
    {'type': 'RandomResize', 'scale': (48, 40), 'ratio_range': (0.8, 1.6), 'keep_ratio': True},
    {'type': 'RandomCrop', 'crop_size': (32, 32), 'cat_max_ratio': 0.75},
    {'type': 'RandomFlip', 'prob': 0.5},
    {'type': 'PhotoMetricDistortion'},
    {'type': 'PackSegInputs'},
]


def config(
    work_dir: str,
    workers: int = 0,
    by_epoch: bool = False,
    seed: int | None = 3,
    resume: bool = False,
    kill: dict | None = None,
    length: int = 20,
    max_keep: int = 1,
    **others,
) -> Config:
    """Config of a run of ``length`` iterations (or epochs of three), with a checkpoint every ten (or two)."""
    loader = {'batch_size': 2, 'num_workers': workers, 'persistent_workers': workers > 0}
    unit = 3 if by_epoch else 1
    every = 2 if by_epoch else 10
    train_cfg = {'max_epochs': length} if by_epoch else {'max_iters': length}
    cfg = {
        'default_scope': 'mmseg',
        'work_dir': work_dir,
        'model': {
            'type': 'EncoderDecoder',
            'data_preprocessor': {
                'type': 'SegDataPreProcessor', 'mean': [127.0] * 3, 'std': [60.0] * 3, 'size': (32, 32),
            },
            'backbone': {
                'type': 'mmvim.Vim', 'out_indices': (0, 1, 2, 3), 'drop_path_rate': 0.3,
                'arch': {'embed_dims': 16, 'depth': 4, 'patch_size': 8, 'patch_stride': 8}, 'pretrain_img_size': 32,
            },
            'decode_head': {
                'type': 'UPerHead', 'in_channels': [16] * 4, 'in_index': [0, 1, 2, 3], 'channels': 8,
                'num_classes': 3, 'norm_cfg': {'type': 'BN'}, 'dropout_ratio': 0.1,
            },
            'train_cfg': {},
            'test_cfg': {'mode': 'whole'},
        },
        'train_dataloader': {
            **loader,
            'sampler': {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': True},
            'dataset': {'type': 'ToyImages', 'pipeline': AUGMENT},
        },
        'val_dataloader': {
            **loader,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': {'type': 'ToyImages', 'indices': 2, 'pipeline': [{'type': 'PackSegInputs'}], 'test_mode': True},
        },
        'train_cfg': {'by_epoch': by_epoch, 'val_interval': 1 if by_epoch else 5, **train_cfg},
        'val_cfg': {},
        'val_evaluator': {'type': 'IoUMetric'},
        'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 0.05}},
        'param_scheduler': [
            {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': 6},
            {'type': 'PolyLR', 'eta_min': 0.0, 'by_epoch': False, 'begin': 6, 'end': length * unit},
        ],
        'default_hooks': {
            'logger': {'type': 'LoggerHook', 'interval': 5},
            'checkpoint': {
                'type': 'mmvim.SafeCheckpointHook', 'by_epoch': by_epoch, 'interval': every, 'max_keep_ckpts': max_keep,
                'save_best': 'mIoU',
            },
            'exact_resume': {'type': 'mmvim.ExactResumeHook'},
        },
        'custom_hooks': [{'type': 'EMAHook', 'momentum': 0.1}],
        'log_processor': {'by_epoch': by_epoch},
        'randomness': {'seed': seed},
        'resume': resume,
        **others,
    }  # fmt: skip
    if kill:
        cfg['custom_hooks'].append({'type': 'KillHook', **kill})
    return Config(deepcopy(cfg))


def run_toys(*runs: dict) -> list[int]:
    """Do the runs, one after the other; returns the signal that ended each, or 0."""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2]), 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        [sys.executable, __file__, json.dumps(runs)], capture_output=True, text=True, env=environment, timeout=300
    )
    signals = [int(line.rpartition(' ')[2]) for line in result.stdout.splitlines() if line.startswith('ended by ')]
    assert len(signals) == len(runs), result.stderr[-3000:]
    return signals


if __name__ == '__main__':
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=False)
    mmengine.runner.runner.collect_env = dict  # looks for compilers, which takes a second or two
    for run in json.loads(sys.argv[1]):
        if 'seed_of' in run:
            run['seed'] = torch.load(run.pop('seed_of'), weights_only=False)['meta']['seed']
        child = os.fork()
        if child == 0:
            np.random.seed()  # a seed left to chance must not be inherited from the parent
            Runner.from_cfg(config(**run)).train()
            sys.stdout.flush()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print(f'\nended by {status}', flush=True)
