"""Out of memory, said in one sentence with what to type."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from mmvim.errors import UserRuntimeError

from .pooled_norm import pooled_norms

PHRASES = ('out of memory', "can't allocate memory", 'cannot allocate memory', 'not enough memory')


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: CUDA's, torch's on the CPU, numpy's or the system's."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in PHRASES)


@contextmanager
def explain_out_of_memory(cfg: Config) -> Iterator[None]:
    """Around training: turn an out-of-memory error into one that names the options which save memory.

    Args:
        cfg: The config that is being trained.

    Raises:
        RuntimeError: In place of any out-of-memory error, with that one as its cause.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserRuntimeError(f'out of memory ({first_line}); {advice(cfg)}') from error


def advice(cfg: Config) -> str:
    """The options of this very config that save memory, as one types them."""
    options = []
    if not cfg.model.get('backbone', {}).get('with_cp', False):
        options.append('model.backbone.with_cp=True (blocks are computed again in the backward pass; same results)')
    batch_size = cfg.train_dataloader.get('batch_size', 1)
    if batch_size > 3 or (batch_size > 1 and not any(pooled_norms(cfg))):  # half of 3 is a batch of one
        options.append(f'train_dataloader.batch_size={batch_size // 2} (now {batch_size}; lower the learning rate too)')
    crop = _crop(cfg)
    if crop:
        options.append(crop)
    return 'to need less: --cfg-options ' + ', or '.join(options or ['model.backbone.arch=... (a smaller model)'])


def _crop(cfg: Config) -> str:
    """The option that halves the crop, wherever the config has its size."""
    sizes = {
        **_sizes(cfg.train_dataloader.get('dataset', {}), 'train_dataloader.dataset'),
        **_sizes(cfg.model.get('data_preprocessor') or {}, 'model.data_preprocessor'),
    }
    size = next((size for key, size in sizes.items() if key.endswith('.crop_size')), None)
    if size is None:
        return ''
    smaller = ','.join(str(max(side // 2 // 32 * 32, 32)) for side in size)
    keys = [key for key in sizes if sizes[key] == size]
    return ' '.join(f'{key}="({smaller})"' for key in keys) + f' (a smaller crop; now {size[0]}x{size[1]})'


def _sizes(cfg: Any, path: str) -> dict[str, tuple[int, int]]:
    """Every ``crop_size`` and ``size`` of two integers below ``cfg``, by its dotted key."""
    found = {}
    items = cfg.items() if isinstance(cfg, dict) else enumerate(cfg) if isinstance(cfg, (list, tuple)) else ()
    for key, value in items:
        if key in ('crop_size', 'size') and isinstance(value, (list, tuple)) and len(value) == 2:
            found[f'{path}.{key}'] = tuple(value)
        else:
            found.update(_sizes(value, f'{path}.{key}'))
    return found
