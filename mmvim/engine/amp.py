"""Mixed precision on machines without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from mmvim.errors import UserValueError
from mmvim.registry import OPTIM_WRAPPERS

CPU_WRAPPER = 'mmvim.CpuAmpOptimWrapper'


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward pass runs under bfloat16 autocast on the CPU.

    mmengine's ``AmpOptimWrapper`` refuses to work without a GPU. bfloat16 has the range of float32, so that there is
    no loss to scale; parameters, gradients and the optimizer's state stay float32. Takes the arguments of
    ``OptimWrapper``, and resumes from checkpoints of both wrappers.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, besides what ``OptimWrapper`` does for the accumulation of gradients."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def enable_amp(cfg: Config) -> None:
    """Switch a config to mixed precision, as ``--amp`` does: fp16 with loss scaling on a GPU, bf16 on a CPU.

    Raises:
        ValueError: If the config has an optimizer wrapper of its own that knows nothing of mixed precision.
    """
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper in ('AmpOptimWrapper', CPU_WRAPPER):
        print_log('--amp: the config already has mixed precision', logger='current')
    elif wrapper == 'OptimWrapper':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    else:
        raise UserValueError(
            f"--amp needs optim_wrapper.type='OptimWrapper', this config has {wrapper!r}; leave --amp out"
        )
    amp_on_cpu(cfg)


def amp_on_cpu(cfg: Config) -> None:
    """Where there is no GPU, let an ``AmpOptimWrapper`` in the config be a :class:`CpuAmpOptimWrapper`."""
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        wrapper['type'] = CPU_WRAPPER
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        print_log('mixed precision on the CPU: bfloat16, no loss scaling', logger='current')
