"""What a config for GPUs needs to run on a machine that has none."""

import os
from typing import Any

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from .amp import amp_on_cpu


def adapt_to_cpu(cfg: Config, launcher: str = 'none') -> None:
    """Change a config in place such that it trains and tests without a GPU; does nothing where there is one.

    - ``AmpOptimWrapper`` becomes bfloat16 autocast.
    - With several processes (torchrun), they talk through gloo, the model is wrapped without device numbers, and SyncBN
      becomes BN: torch's SyncBN wants GPUs. For a single process mmengine's runner and the inferencers do that
      themselves.

    Args:
        cfg: The config, before a runner is built from it.
        launcher: ``'none'`` or ``'pytorch'``.
    """
    if get_device() != 'cpu':
        return
    amp_on_cpu(cfg)
    if launcher != 'pytorch':
        return
    # mmengine's own initialisation selects a GPU first, and leaves a process group that exists alone.
    if not torch.distributed.is_initialized() and 'RANK' in os.environ:
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(cfg.get('model_wrapper_cfg') or {}, device_ids=None)
    cfg.model_wrapper_cfg.setdefault('type', 'MMDistributedDataParallel')
    cfg.model_wrapper_cfg.setdefault('broadcast_buffers', False)
    cfg.model_wrapper_cfg.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
    replaced = replace_sync_bn(cfg.model)
    if replaced:
        print_log(f'SyncBN is replaced by BN in {replaced} places of the config: there is no GPU', logger='current')


def replace_sync_bn(cfg: Any) -> int:
    """Replace ``type='SyncBN'`` (mmdet's and mmseg's configs, in any nesting) by BN; returns how many there were."""
    if isinstance(cfg, (list, tuple)):
        return sum(map(replace_sync_bn, cfg))
    if not isinstance(cfg, dict):
        return 0
    here = cfg.get('type') in ('SyncBN', 'MMSyncBN')
    if here:
        cfg['type'] = 'BN'
    return here + sum(replace_sync_bn(value) for value in cfg.values())
