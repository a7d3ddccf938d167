"""Time, memory and tables for everything that measures, on a CPU or a GPU."""

import ctypes
import json
import multiprocessing
import resource
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmvim.files import write_whole
from mmvim.machine import describe
from mmvim.markdown import markdown_table
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
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{key}:'))


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
    return {**describe(device), 'scans': backends.describe(device)}


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
        lines.append(markdown_table(columns, ([row.get(column, '') for column in columns] for row in rows)).rstrip())
    return '\n'.join(lines) + '\n'
