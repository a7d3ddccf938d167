"""Published and measured numbers side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmvim.catalogue.records import METRICS, TTA_METRICS, Model

from .state import State

#: A measured number that is this far from the published one, in percent points, is marked.
TOLERANCE = 0.2
# What is measured of a model whether somebody published a number or not.
_OF_TASK = {'seg': ('mIoU',), 'det': ('box AP', 'mask AP'), 'imagenet': ('top-1', 'top-5')}
_WITH_TTA, _WITH_AMP = '+tta', '+amp'


@dataclass(frozen=True)
class Job:
    """A model to be evaluated in one of four ways.

    Attributes:
        model: The model.
        tta: Whether with test-time augmentation.
        amp: Whether in mixed precision.
    """

    model: Model
    tta: bool = False
    amp: bool = False

    @property
    def name(self) -> str:
        """Unique."""
        return f'{self.model.name}{_WITH_TTA if self.tta else ""}{_WITH_AMP if self.amp else ""}'

    @property
    def metrics(self) -> list[str]:
        """What is measured."""
        published = [number.metric for number in self.model.published]
        if self.tta:
            return [metric for metric in published if metric in TTA_METRICS]
        return list(dict.fromkeys([m for m in published if m not in TTA_METRICS] + [*_OF_TASK[self.model.task]]))


def measured(job: Job, state: State) -> dict[str, float]:
    """What was measured, in percent, by the name of the metric."""
    found = state.results[job.name]['metrics']
    names = {metric: METRICS[metric] for metric in job.metrics}
    return {metric: round(found[key] * factor, 3) for metric, (key, factor) in names.items() if key in found}


def rows(jobs: Iterable[Job], state: State) -> list[dict[str, Any]]:
    """One row for each number of each job that was done."""
    table = []
    for job in jobs:
        if job.name not in state.results:
            continue
        result = state.results[job.name]
        sources = {number.metric: number.source for number in job.model.published}
        for metric, value in measured(job, state).items():
            published = job.model.value(metric)
            difference = None if published is None else round(value - published, 3)
            table.append(
                {
                    'model': job.model.name,
                    'task': job.model.task,
                    'data set': job.model.dataset,
                    'metric': metric,
                    'precision': result['request'].get('amp', 'fp32'),
                    'published': published,
                    'source': sources.get(metric),
                    'measured': value,
                    'difference': difference,
                    'marked': difference is not None and abs(difference) > TOLERANCE,
                    'images': result['images'],
                    'images/s': round(result['images_per_second'], 3),
                    'peak memory (MiB)': round(result['peak_memory'] / 2**20),
                    'test batch': result['batch_size'],
                    'processes': result['processes'],
                    'weights': result['weights'],
                    'sha256': result['request']['weights'],
                    'finished': result['finished'],
                    'machine': result['machine'],
                    'versions': result['versions'],
                }
            )
    return table


def all_jobs(models: Sequence[Model]) -> list[Job]:
    """Every way to evaluate these models."""
    jobs = (Job(model, tta, amp) for model in models for tta in (False, True) for amp in (False, True))
    return [job for job in jobs if job.metrics]
