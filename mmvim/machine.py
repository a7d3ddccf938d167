"""What this machine is, and what it has left."""

import gc
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path


def describe(device: str = 'cpu') -> dict[str, str]:
    """What a measured number depends on, besides the code and what the scans run on.

    Args:
        device: ``'cpu'`` or ``'cuda'``, the first card.
    """
    import torch

    about = {'processor': f'{processor()}, {os.cpu_count()} cores'}
    if device == 'cuda':
        card = torch.cuda.get_device_properties(0)
        about['card'] = (
            f'{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors'
        )
        about['CUDA of torch'] = torch.version.cuda
    return {
        **about,
        'threads': str(torch.get_num_threads()),
        'torch': torch.__version__,
        'load before the run': f'{os.getloadavg()[0]:.1f}',
        'date': date.today().isoformat(),
    }


def processor() -> str:
    """Its name."""
    return next(
        (line.split(':')[1].strip() for line in _lines('/proc/cpuinfo') if 'model name' in line), platform.processor()
    )


def multiplies_bf16() -> bool | None:
    """Whether this CPU has units that multiply bfloat16; None where the system does not say what it has.

    By Linux's names: AVX512-BF16 and AMX on x86, the BF16 extension on Arm.
    """
    lists = [
        line.partition(':')[2].split() for line in _lines('/proc/cpuinfo') if line.startswith(('flags', 'Features'))
    ]
    return bool({'avx512_bf16', 'amx_bf16', 'bf16'} & set(lists[0])) if lists else None


def free_memory() -> int | None:
    """Bytes that this machine, or the container in it, has left; None where the system does not say."""
    free = next(
        (int(line.split()[1]) * 1024 for line in _lines('/proc/meminfo') if line.startswith('MemAvailable:')), None
    )
    limit, used = (_lines(f'/sys/fs/cgroup/memory.{name}') for name in ('max', 'current'))
    if free is not None and limit and used and limit[0].isdigit():
        free = max(min(free, int(limit[0]) - int(used[0])), 0)
    return free


def clock() -> float:
    """Seconds, when everything that was asked of a GPU so far is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _lines(path: str) -> list[str]:
    """Those of a file of the system; none where there is no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For building what stays: looking through millions of new objects again and again finds nothing and takes long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
