"""Evaluates published weights: each model in a process of its own, through ``tools/test.py``."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from rich.console import Console

from mmvim.catalogue.records import DATASETS
from mmvim.engine.amp_inference import amp_dtype
from mmvim.errors import UserFileNotFoundError, UserRuntimeError
from mmvim.paths import ROOT
from mmvim.preflight.finding import Finding, demand

from .process import run_test
from .report import write_report
from .state import State
from .table import Job, measured
from .weights import Weights

#: Where a data set may be below the folder of data, and a folder that it has.
_PLACES = {
    'seg': (('ade/ADEChallengeData2016', 'ADEChallengeData2016'), 'images/validation'),
    'det': (('coco',), 'val2017'),
    'imagenet': (('imagenet', 'imagenet/imagenet'), 'val'),
}


@dataclass(frozen=True)
class Settings:
    """How models are evaluated.

    Attributes:
        data: Folder of the data sets.
        out: Folder of the results.
        gpus: Processes that torchrun starts, one for each GPU; 0 for a single process without it.
        workers: Processes that load images, for each process; None for those of the config.
    """

    data: Path
    out: Path
    gpus: int = 0
    workers: int | None = None


def evaluate(
    jobs: Sequence[Job], weights: Weights, settings: Settings, console: Console, known: Sequence[Job] = ()
) -> int:
    """Evaluate models one after the other, and write the table of results after each.

    What was evaluated before in the same way, with the same weights, is kept. What fails is reported, and the others
    go on.

    Args:
        jobs: To do.
        weights: Where the files come from.
        settings: How.
        console: Where is told what happens.
        known: Jobs that the table shows too if an earlier run in the same folder has done them.

    Returns:
        Number of jobs that failed.

    Raises:
        RuntimeError: If another evaluation writes into the same folder.
        ValueError: If the state in that folder is damaged.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    failed, files = [], []
    shown = list(dict.fromkeys([*known, *jobs]))
    with _alone(settings.out):
        state = State(settings.out / 'state.json')
        for number, job in enumerate(jobs, 1):
            title = f'[{number}/{len(jobs)}] {job.name}'
            try:
                with console.status(title):
                    kept = _do(job, weights, settings, state)
            except (ValueError, OSError, RuntimeError) as error:
                state.fail(job.name, str(error))
                failed.append(job.name)
                said = f'FAILED: {error}'
            else:
                said = ', '.join(f'{metric} {value:.2f}' for metric, value in measured(job, state).items())
                said += ' (evaluated before)' if kept else ''
            console.print(f'{title}: {said}', markup=False, highlight=False, soft_wrap=True)
            files = write_report(shown, state, settings.out)
    told = f'{len(jobs) - len(failed)} evaluated, {len(failed)} failed' + (f': {", ".join(failed)}' if failed else '')
    console.print(told, highlight=False, soft_wrap=True)
    console.print(f'table: {", ".join(map(str, files))}', highlight=False, soft_wrap=True)
    return len(failed)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, as long as this process lives at most.

    Raises:
        RuntimeError: If another process holds it.
    """
    with (folder / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserRuntimeError(
                f'another evaluation writes into {folder}: wait for it, or give another --out'
            ) from None
        yield


def _do(job: Job, weights: Weights, settings: Settings, state: State) -> bool:
    """Do a job, unless it was done before, and keep its result; returns whether it was done before."""
    model = job.model
    path, checksum = weights.obtain(model)
    cfg = evaluation_config(job, settings)
    request = {'config': _digest(cfg), 'weights': checksum, 'tta': job.tta, 'gpus': settings.gpus}
    if job.amp:  # results of earlier releases, all in fp32, have no such entry and stay good
        request['amp'] = amp_dtype(cfg, get_device())
    if state.has(job.name, request):
        return True
    folder = settings.out / job.name
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / 'measured.json'
    out.unlink(missing_ok=True)
    hook = {'type': 'mmvim.MeasureHook', 'out': str(out)}
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    cfg.custom_imports = {'imports': ['mmvim', 'mmvim.zoo.measure'], 'allow_failed_imports': False}
    cfg.dump(folder / 'config.py')
    run_test(folder / 'config.py', path, folder, tta=job.tta, amp=job.amp, gpus=settings.gpus)
    state.finish(job.name, request, {'weights': str(path), **json.loads(out.read_text())})
    return False


def evaluation_config(job: Job, settings: Settings) -> Config:
    """The config of a model with the pinned test batch, and the data where they are.

    Raises:
        FileNotFoundError: If there is no such data set.
    """
    model = job.model
    cfg = Config.fromfile(ROOT / model.config)
    loader = cfg.test_dataloader
    loader.batch_size = model.test_batch_size
    if settings.workers is not None:
        loader.num_workers = settings.workers
        loader.persistent_workers = settings.workers > 0
    place = _find_data(settings.data, model.task)
    old = loader.dataset.data_root
    loader.dataset.data_root = f'{place}/'
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    for evaluator in evaluators:
        if evaluator.get('ann_file'):
            evaluator.ann_file = str(place / Path(evaluator.ann_file).relative_to(old))
    return cfg


def _find_data(folder: Path, task: str) -> Path:
    places, inside = _PLACES[task]
    place = next((folder / place for place in places if (folder / place / inside).is_dir()), None)
    found = f'{DATASETS[task]} is not in {folder}: expected {folder / places[0] / inside}'
    remedy = 'put or link it there, or give --data another folder'
    demand([Finding(DATASETS[task], place is not None, found, remedy)], UserFileNotFoundError)
    return place.resolve()


def _digest(cfg: Config) -> str:
    return hashlib.sha256(json.dumps(cfg.to_dict(), sort_keys=True, default=str).encode()).hexdigest()
