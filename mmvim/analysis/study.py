"""Many small runs in processes of their own, each result kept as soon as it is there."""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import mmengine
import torch
from rich.console import Console

from mmvim.errors import UserFileExistsError, UserOSError
from mmvim.files import write_whole
from mmvim.version import __version__

from .measure import in_child


class Study:
    """Results in a folder, all of one budget.

    ``budget.json`` says what all runs have in common, ``runs/NAME.json`` is the result of one. A run is there whole or
    not at all, so whatever ends a study, the next call goes on from there.

    Args:
        folder: Made if need be.
        budget: What changes a result and is not in the name of a run.

    Raises:
        FileExistsError: If the folder holds results of another budget.
        OSError: If it cannot be written.
    """

    def __init__(self, folder: Path, budget: Mapping[str, Any]) -> None:
        self.folder = folder
        self.budget = {**budget, 'mmvim': __version__, 'torch': torch.__version__, 'mmengine': mmengine.__version__}
        path = folder / 'budget.json'
        try:
            found = _read(path)
            if found is None:
                write_whole(path, json.dumps(self.budget, indent=2) + '\n')
            (folder / 'runs').mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UserOSError(f'{folder} cannot be written ({reason}): name another folder with --out') from error
        wanted = json.loads(json.dumps(self.budget))
        if found not in (None, wanted):
            differ = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
            have, want = (', '.join(f'{key}={budget.get(key)}' for key in differ) for budget in (found, wanted))
            raise UserFileExistsError(
                f'{folder} holds runs with {have}, asked for were such with {want}; name another folder with --out'
            )

    def finished(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The results that are there, by name, in the order asked for."""
        found = {name: _read(self._file(name)) for name in names}
        return {name: result for name, result in found.items() if result is not None}

    def run(
        self,
        jobs: Mapping[str, tuple],
        function: Callable[..., dict[str, Any]],
        workers: int,
        report: Callable[[str, dict[str, Any] | Exception], None],
    ) -> None:
        """Do what is not finished, ``workers`` at a time; each process has as many threads as this one.

        Args:
            jobs: Name of a run -> arguments of ``function``, which gives its result.
            function: Of a module, so that another process finds it.
            workers: Processes at the same time.
            report: Called with the name and the result of each run, or the error that ended it. The others go on.
        """
        done = self.finished(jobs)
        pool = ThreadPoolExecutor(workers)
        waiting = {
            pool.submit(in_child, function, *arguments): name for name, arguments in jobs.items() if name not in done
        }
        try:
            for future in as_completed(waiting):
                name, error = waiting[future], future.exception()
                if error is None:
                    write_whole(self._file(name), json.dumps(future.result()) + '\n')
                report(name, error or future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():  # after Ctrl-C; otherwise there are none
                child.kill()

    def _file(self, name: str) -> Path:
        return self.folder / 'runs' / f'{name}.json'


def carry_out(
    study: Study,
    jobs: Mapping[str, tuple],
    function: Callable[..., dict[str, Any]],
    workers: int,
    sentence: Callable[[dict[str, Any]], str],
    console: Console,
) -> tuple[list[dict[str, Any]], int]:
    """Do what is not finished, in processes of one thread each, and say how it goes.

    Args:
        study: Keeps the results.
        jobs, function, workers: As in :meth:`Study.run`.
        sentence: What is told of a result.
        console: Where it is told.

    Returns:
        All results that are there, and the exit code of the command: 1 if a run failed, 130 after Ctrl-C.
    """
    torch.set_num_threads(1)  # in the processes too
    failed: list[str] = []
    done = len(study.finished(jobs))
    if done:
        console.print(f'{done} of {len(jobs)} runs are in {study.folder} already')

    def report(name: str, result: dict[str, Any] | Exception) -> None:
        nonlocal done
        if isinstance(result, Exception):
            failed.append(name)
            console.print(f'{name} failed: {type(result).__name__}: {result}')
        else:
            done += 1
            console.print(f'[{done}/{len(jobs)}] {name}: {sentence(result)}')

    code = 0
    try:
        study.run(jobs, function, workers, report)
    except KeyboardInterrupt:
        console.print('interrupted; the same command goes on from here')
        code = 130
    if failed:
        console.print(f'{len(failed)} of {len(jobs)} runs failed; the same command tries them again')
    return list(study.finished(jobs).values()), code or int(bool(failed))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; of a single value itself."""
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):  # a damaged one is made again
        return None
