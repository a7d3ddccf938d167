"""Mixed precision for inference: what ``--amp`` makes of a model that is only to predict."""

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmvim.errors import UserRuntimeError, UserValueError
from mmvim.machine import multiplies_bf16, processor
from mmvim.registry import HOOKS

from .folding import fold_batch_norms
from .roi_align import pool_by_products
from .upernet import split_last_convolution

#: Where the network of a model is entered, by mmengine's loops, the inferencers and the sliding window.
ENTRANCES = ('forward', 'encode_decode', 'extract_feat')
_SHORT = {torch.bfloat16: 'bf16', torch.float16: 'fp16'}


@HOOKS.register_module()
class AmpInferenceHook(Hook):
    """Test in mixed precision, see :func:`use_amp`, with a copy of the model: the runner's own stays as it is.

    Args:
        dtype (str): ``'bf16'`` or ``'fp16'``.
    """

    priority = 'VERY_LOW'  # after the hook that puts averaged weights into the model

    def __init__(self, dtype: str) -> None:
        self._dtype = next(key for key, name in _SHORT.items() if name == dtype)

    def before_test_epoch(self, runner: Runner) -> None:
        """Put the copy into the place of the model."""
        self._model = runner.model
        runner.model = deepcopy(runner.model.module if is_model_wrapper(runner.model) else runner.model)
        use_amp(runner.model, self._dtype)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Put the model back."""
        runner.model = self._model


def predict_with_amp(cfg: Config, device: str) -> None:
    """Have a config tested in mixed precision.

    Args:
        cfg: Config of the run, changed in place.
        device: ``'cpu'``, ``'cuda'``, ...
    """
    dtype = amp_dtype(cfg, device)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), {'type': 'mmvim.AmpInferenceHook', 'dtype': dtype}]
    print_log(f'--amp: {describe_amp(dtype, device)}', logger='current')


def amp_dtype(cfg: Config, device: str) -> str:
    """What networks compute in: bf16 on a CPU, elsewhere ``optim_wrapper.dtype`` of the config, or fp16.

    Raises:
        ValueError: If the config names something else there.
    """
    if torch.device(device).type == 'cpu':
        return 'bf16'
    named = (cfg.get('optim_wrapper') or {}).get('dtype') or 'float16'
    found = getattr(torch, str(named), None)
    if found not in _SHORT:
        raise UserValueError(f'--amp: optim_wrapper.dtype={named!r}: expected float16 or bfloat16')
    return _SHORT[found]


def describe_amp(dtype: str, device: str) -> str:
    """A line on what is to be expected of it."""
    if torch.device(device).type == 'cpu' and multiplies_bf16() is False:
        return (
            f'{dtype}, and no faster for it: this CPU ({processor()}) has no units for {dtype} (AVX512-BF16, AMX); '
            'leave --amp out'
        )
    return f'networks compute in {dtype}; scores, boxes, masks and class maps in fp32'


@torch.no_grad()
def use_amp(model: nn.Module, dtype: torch.dtype | str) -> None:
    """Have a model compute in mixed precision whoever calls it, for nothing but inference.

    - Batch norms are folded into convolutions, UPerNet's last convolution is computed level by level.
    - Weights of convolutions and linear layers are kept as autocast would cast them for every image.
    - The network runs under autocast; what its heads give is float32, so that scores, boxes, masks and class maps are
      computed in it, and so is what regions are pooled from: their corners would be off by pixels. On a CPU they are
      pooled by matrix products.

    Args:
        model: Detector, segmentor or classifier, or such a one for test-time augmentation; changed in place.
        dtype: bfloat16 or float16; ``'bf16'`` or ``'fp16'``.
    """
    if isinstance(dtype, str):
        dtype = next(key for key, name in _SHORT.items() if name == dtype)
    model.eval()
    fold_batch_norms(model)
    split_last_convolution(model)
    device = next(model.parameters()).device.type
    if device == 'cpu':
        pool_by_products(model)
    for name, module in model.named_modules():
        if type(module).forward in _CAST_BY_AUTOCAST:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
        if hasattr(module, 'decode_head') and device == 'cpu':
            module.decode_head.to(memory_format=torch.channels_last)  # measured: a sixth faster in bf16, slower in fp32
        if hasattr(module, 'predict_by_feat') or name.rpartition('.')[2] == 'head':
            module.forward = _gives_float32(module.forward)
        if hasattr(module, 'roi_layers'):
            module.forward = _takes_float32(module.forward)
    network = model.module if hasattr(model, 'module') else model  # inside of test-time augmentation
    for name in ENTRANCES:
        if hasattr(network, name):
            setattr(network, name, _under_autocast(getattr(network, name), device, dtype))


_CAST_BY_AUTOCAST = {
    kind.forward for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
}


def _gives_float32(forward: Callable) -> Callable:
    @wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _to_float32(forward(*args, **kwargs))

    return wrapped


def _takes_float32(forward: Callable) -> Callable:
    @wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return forward(*_to_float32(args), **_to_float32(kwargs))

    return wrapped


def _to_float32(values: Any) -> Any:
    return tree_map_only(Tensor, lambda x: x.float() if x.dtype in _SHORT else x, values)


def _under_autocast(function: Callable, device: str, dtype: torch.dtype) -> Callable:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with torch.autocast(device, dtype):
                return function(*args, **kwargs)
        except RuntimeError as error:
            text = str(error).partition('\n')[0]
            if not any(word in text for word in _REFUSALS):
                raise
            raise UserRuntimeError(
                f'--amp: a part of this model does not compute in {_SHORT[dtype]} ({text}); leave --amp out'
            ) from error

    return wrapped


_REFUSALS = ('not implemented for', 'dtype', 'BFloat16', 'Half')
