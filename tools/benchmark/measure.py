"""Time, memory and tables for the benchmark scripts."""

import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmvim.ops import backends


class Timing(NamedTuple):
    """Seconds of one call: the best and the median of ``runs``."""

    best: float
    median: float
    runs: int


def time_call(call: Callable[[], Any], seconds: float = 2.0, least: int = 3) -> Timing:
    """Call once to warm up, then for ``seconds`` and at least ``least`` times."""
    call()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return Timing(min(times), statistics.median(times), len(times))


def peak_memory(call: Callable[[], Any]) -> int:
    """Bytes that the process needs at most during ``call``, above what it held before; Linux only."""
    # Freed memory goes back first: otherwise the call would fill old holes and seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _status('VmRSS')
    call()
    return _status('VmHWM') - before


def _status(key: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def in_child(function: Callable, *args: Any) -> Any:
    """``function(*args)`` in a fresh process with the same number of threads, so that measurements do not mix."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=torch.set_num_threads,
                             initargs=(torch.get_num_threads(),)) as pool:  # fmt: skip
        return pool.submit(function, *args).result()


def machine() -> dict[str, str]:
    """What a number depends on, besides the code."""
    cpu = next(
        (line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if 'model name' in line),
        platform.processor(),
    )
    return {
        'processor': f'{cpu}, {os.cpu_count()} cores',
        'threads': str(torch.get_num_threads()),
        'torch': torch.__version__,
        'scans': backends.describe('cpu'),
        'load before the run': f'{os.getloadavg()[0]:.1f}',
        'date': date.today().isoformat(),
    }


def write_tables(folder: Path, name: str, title: str, about: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Print ``rows``, whose keys are the columns, and write them as ``folder/name.md`` and ``folder/name.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    lines = [f'# {title}', '', *(f'- {key}: {value}' for key, value in about.items()), '']
    lines += ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    lines += ['| ' + ' | '.join(str(row[column]) for column in columns) + ' |' for row in rows]
    text = '\n'.join(lines) + '\n'
    (folder / f'{name}.md').write_text(text)
    (folder / f'{name}.json').write_text(json.dumps({'title': title, 'machine': about, 'rows': rows}, indent=2) + '\n')
    print(text)
