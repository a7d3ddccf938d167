"""What a config for GPUs needs to run on a machine that has none."""

import ctypes
import os
from typing import Any

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from .amp import amp_on_cpu
from .rotated_iou import let_rotated_iou_run_on_cpu


def set_up_cpu(cfg: Config, launcher: str = 'none') -> None:
    """Make this process and a config ready to train and test without a GPU; does nothing where there is one.

    The config is changed in place, the process is set up for its lifetime:

    - Memory that tensors free stays with the process, see :func:`keep_freed_memory`.
    - ``AmpOptimWrapper`` becomes bfloat16 autocast.
    - The loss of rotated boxes by their common area, which mmcv has for GPUs, is there.
    - With several processes (torchrun), they talk through gloo, the model is wrapped without device numbers, and SyncBN
      becomes BN: torch's SyncBN wants GPUs. For a single process mmengine's runner and the inferencers do that
      themselves.

    Args:
        cfg: The config, before a runner is built from it.
        launcher: ``'none'`` or ``'pytorch'``.
    """
    if get_device() != 'cpu':
        return
    keep_freed_memory()
    amp_on_cpu(cfg)
    if cfg.get('default_scope') == 'mmrotate':
        let_rotated_iou_run_on_cpu()
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


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 1 GiB for the next tensor, rather than give them back to the system.

    Given back, each large tensor means new pages that the system has to fill with zeros first, in every layer of every
    iteration. With another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


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
