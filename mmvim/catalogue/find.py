"""Models of the zoo by name and pattern."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mmvim.errors import UserValueError
from mmvim.names import hint

from .records import DATASETS, Model


def find(models: Sequence[Model], name: str) -> Model:
    """The model of that name.

    Raises:
        ValueError: If there is none, with the nearest names.
    """
    for model in models:
        if model.name == name:
            return model
    raise UserValueError(f'there is no model {name!r}{_nearest(name, models)}')


def select(models: Sequence[Model], task: str | None = None, patterns: Sequence[str] = ()) -> list[Model]:
    """The models of a task whose name, or the variant of whose backbone, fits one of the patterns.

    Args:
        models: To choose from.
        task: ``'seg'``, ``'det'``, ``'imagenet'``, or None for all.
        patterns: As a shell has them, such as ``'vmamba_t*'``; none for all.

    Raises:
        ValueError: If a pattern fits nothing, with the nearest names; or if no model is left.
    """
    if task is not None and task not in DATASETS:
        raise UserValueError(f'there is no task {task!r}: expected one of {", ".join(DATASETS)}')
    for pattern in patterns:
        if not any(_fits(model, pattern) for model in models):
            raise UserValueError(f'no model fits {pattern!r}{_nearest(pattern, models)}')
    chosen = [
        model
        for model in models
        if task in (None, model.task) and (not patterns or any(_fits(model, pattern) for pattern in patterns))
    ]
    if not chosen:
        raise UserValueError(f'no model of the task {task} fits {" or ".join(map(repr, patterns))}')
    return chosen


def _fits(model: Model, pattern: str) -> bool:
    return fnmatchcase(model.name, pattern) or fnmatchcase(model.variant, pattern)


def _nearest(name: str, models: Sequence[Model]) -> str:
    known = {known for model in models for known in (model.name, model.variant)}
    return f'{hint(name.strip("*"), known)}; python tools/zoo.py list has all'
