"""Times of calls on a GPU, eager and in a CUDA graph, over inputs that do not stay in the cache."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

Call = Callable[[], Any]


class Speed(NamedTuple):
    """Seconds of one call: median and quartiles of ``runs``."""

    median: float
    low: float
    high: float
    runs: int

    @property
    def spread(self) -> str:
        """Half the distance between the quartiles, relative to the median."""
        return f'{(self.high - self.low) / 2 / self.median:.1%}'


def copies(size: int, device: str, most: int = 64) -> int:
    """How many sets of inputs of ``size`` bytes take turns so that each is out of the cache when its turn comes."""
    if device == 'cpu':
        return 2
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, min(most, 2 * cache // max(size, 1) + 2))


def eager(calls: Sequence[Call], device: str, least: int = 50, limit: float = 4.0, fewest: int = 5) -> Speed:
    """Time calls in turn, each by events of its own: the host's part of the work is in it.

    Args:
        calls: The same work on different inputs.
        device: ``'cuda'``, or ``'cpu'`` for a dry run.
        least: Runs that are wanted.
        limit: Seconds after which ``fewest`` runs will do.
        fewest: See ``limit``.
    """
    least = least if device == 'cuda' else 3
    for call in calls[:3]:
        call()
    _synchronize(device)
    times: list[float] = []
    end = time.perf_counter() + limit
    while len(times) < (least if time.perf_counter() < end else fewest):
        call = calls[len(times) % len(calls)]
        if device == 'cpu':
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        else:
            begin, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(begin.elapsed_time(stop) / 1e3)
    return _speed(times)


def graphed(calls: Sequence[Call], device: str, least: int = 50, limit: float = 4.0) -> Speed | None:
    """Time one CUDA graph of all calls in turn: what the GPU takes, without the host. ``None`` on a CPU."""
    if device == 'cpu':
        return None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls[:3]:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    speed = eager([graph.replay], device, least, limit)
    return Speed(*(value / len(calls) for value in speed[:3]), speed.runs)


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _speed(times: list[float]) -> Speed:
    low, _, high = statistics.quantiles(times if len(times) > 1 else times * 2, n=4)
    return Speed(statistics.median(times), low, high, len(times))
