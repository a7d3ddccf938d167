"""Time, memory and tables for everything that measures, on a CPU or a GPU."""

import ctypes
import json
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import time
from collections.abc import Callable
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmvim.ops import backends


class Timing(NamedTuple):
    """Seconds of one call: the best and the median of ``runs``."""

    best: float
    median: float
    runs: int


def time_call(call: Callable[[], Any], seconds: float = 2.0, least: int = 3, device: str = 'cpu') -> Timing:
    """Call once to warm up, then for ``seconds`` and at least ``least`` times; on a GPU timed by events of its own."""
    call()
    stopwatch = _time_on_gpu if device == 'cuda' else _time_on_cpu
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < 1000):
        times.append(stopwatch(call))
    return Timing(min(times), statistics.median(times), len(times))


def _time_on_cpu(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _time_on_gpu(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def peak_memory(call: Callable[[], Any], device: str = 'cpu') -> int:
    """Bytes needed at most during ``call``, above what was held before.

    On a CPU those of the process, from the system (Linux only): meant for a process that does nothing else. On a GPU
    those of torch's tensors.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # Freed memory goes back first: otherwise the call would fill old holes and seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _status('VmRSS')
    call()
    return _status('VmHWM') - before


def _status(key: str) -> int:
    return _kilobytes(Path('/proc/self/status'), key)


def _kilobytes(path: Path, key: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in path.read_text().splitlines() if line.startswith(key + ':'))


def free_memory() -> int:
    """Bytes that this machine, or the container in it, has left."""
    free = _kilobytes(Path('/proc/meminfo'), 'MemAvailable')
    limit, used = (Path('/sys/fs/cgroup') / name for name in ('memory.max', 'memory.current'))
    if limit.exists() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def forbid_more_memory(size: int) -> None:
    """Let an allocation of this process fail, rather than the system kill something, beyond ``size`` more bytes."""
    limit = _status('VmSize') + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def in_child(function: Callable, *args: Any, timeout: float | None = None) -> Any:
    """``function(*args)`` in a fresh process with the same number of threads, so that measurements do not mix.

    Raises:
        TimeoutError: After ``timeout`` seconds; the process is ended.
        MemoryError: If the system killed the process, as it does when memory runs out.
        ChildProcessError: If the process broke down in another way.
    """
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, torch.get_num_threads(), function, args), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            raise TimeoutError(f'not finished within {timeout:.0f} s')
        result, error = ours.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError('the process was killed, as it is when memory runs out') from None
        raise ChildProcessError(f'the process broke down with exit code {process.exitcode}') from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error
    return result


def _answer(pipe: Connection, threads: int, function: Callable, args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    torch.set_num_threads(threads)
    try:
        answer = function(*args), None
    except Exception as error:  # travels to the parent, which raises it
        answer = None, error
    pipe.send(answer)


def machine(device: str = 'cpu') -> dict[str, str]:
    """What a number depends on, besides the code."""
    cpu = next(
        (line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if 'model name' in line),
        platform.processor(),
    )
    about = {'processor': f'{cpu}, {os.cpu_count()} cores'}
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
        'scans': backends.describe(device),
        'load before the run': f'{os.getloadavg()[0]:.1f}',
        'date': date.today().isoformat(),
    }


def write_tables(folder: Path, name: str, title: str, about: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Print ``rows``, whose keys are the columns, and write them as ``folder/name.md`` and ``folder/name.json``."""
    text = markdown(title, about, rows)
    write_whole(folder / f'{name}.md', text)
    write_whole(folder / f'{name}.json', json.dumps({'title': title, 'machine': about, 'rows': rows}, indent=2) + '\n')
    print(text)


def markdown(title: str, about: dict[str, str], rows: list[dict[str, Any]]) -> str:
    """A heading, ``about`` as a list, and ``rows``, whose keys are the columns, as a table."""
    lines = [f'# {title}', '', *(f'- {key}: {value}' for key, value in about.items())]
    if about and rows:
        lines.append('')
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines += ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
        lines += ['| ' + ' | '.join(str(row.get(column, '')) for column in columns) + ' |' for row in rows]
    return '\n'.join(lines) + '\n'


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.part')
    draft.write_text(text)
    os.replace(draft, path)
