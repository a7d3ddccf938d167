"""Going on with a run under a config that differs from the one it was started with."""

import ast
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_world_size
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmvim.errors import UserValueError

PROCESSES = 'processes'  # in the message hub, which goes into the checkpoint
# How far a scheduler is, as opposed to what it was set to.
# (`patience`: a scheduler that follows metrics, most of whose attributes are progress.)
PROGRESS = {'last_step', '_global_step', '_last_value', 'verbose', 'optimizer'}
# What makes two data sets different ones.
DATA_KEYS = (
    'type', 'data_root', 'ann_file', 'data_prefix', 'img_suffix', 'seg_map_suffix', 'reduce_zero_label', 'indices'
)  # fmt: skip


def former_config(checkpoint: dict) -> dict:
    """The config of the run that wrote a checkpoint, as far as it consists of plain values.

    It is text of Python, which is looked at and not run.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    if not isinstance(text, str):
        return {}
    try:
        statements = ast.parse(text).body
        return {
            statement.targets[0].id: _value(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _value(node: ast.expr) -> Any:
    """The value of an expression of literals and ``dict(...)``; of any other its text."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {item.arg: _value(item.value) for item in node.keywords if item.arg is not None}
    if isinstance(node, ast.Dict):
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ast.unparse(node)


def _key(node: ast.expr) -> Any:
    value = _value(node)
    return tuple(value) if isinstance(value, list) else str(value) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    """A value of a config in the form that :func:`former_config` has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def check_optimizer(runner: Runner, checkpoint: dict, filename: str) -> None:
    """See that the optimizer of a checkpoint can go on as that of a runner.

    Raises:
        ValueError: If it is another one, or has other groups of parameters.
    """
    state = checkpoint.get('optimizer')
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)  # several optimizers have a wrapper of their own
    if optimizer is None or not isinstance(state, dict) or 'param_groups' not in state:
        return
    way = f'start from its weights with --cfg-options load_from={filename} instead of --resume'
    ours = type(optimizer).__name__
    theirs = former_config(checkpoint)
    for key in ('optim_wrapper', 'optimizer', 'type'):
        theirs = theirs.get(key) if isinstance(theirs, dict) else None
    groups = state['param_groups']
    lacks = sorted(set(optimizer.defaults) - set(groups[0])) if groups else []
    if (isinstance(theirs, str) and theirs.rpartition('.')[2] != ours) or (lacks and not theirs):
        what = theirs or f'one without {", ".join(lacks)}'
        raise UserValueError(
            f'{filename} was trained by another optimizer ({what}; here {ours}): go on with that, or {way}.'
        )
    sizes = [[len(group['params']) for group in side] for side in (groups, optimizer.param_groups)]
    if sizes[0] != sizes[1]:
        counts = ' and here '.join(f'{len(side)} groups of {sum(side)} parameters' for side in sizes)
        raise UserValueError(
            f'the optimizer of {filename} has {counts}: the model or paramwise_cfg differ; take those back, or {way}.'
        )


def differences(runner: Runner, checkpoint: dict) -> Iterator[str]:
    """What of the data, the batch and the processes is not as in the run that wrote a checkpoint, with both values."""
    former = former_config(checkpoint).get('train_dataloader')
    loader = runner.cfg.get('train_dataloader')
    if isinstance(former, dict) and isinstance(loader, dict):
        before, now = dict(_settings(former)), dict(_settings(_plain(loader)))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                yield f'train_dataloader.{key} was {before.get(key)!r} and is {now.get(key)!r}'
    hub = checkpoint.get('message_hub') or {}
    processes = hub.get('runtime_info', {}).get(PROCESSES) if isinstance(hub, dict) else None
    if processes is not None and processes != get_world_size():
        yield f'the number of processes was {processes} and is {get_world_size()}'


def _settings(loader: dict) -> Iterator[tuple[str, Any]]:
    yield 'batch_size', loader.get('batch_size')
    yield from _of_data(loader.get('dataset'), 'dataset')


def _of_data(dataset: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(dataset, dict):
        return
    for key in DATA_KEYS:
        if key in dataset:
            yield f'{path}.{key}', dataset[key]
    yield from _of_data(dataset.get('dataset'), f'{path}.dataset')
    for number, inner in enumerate(dataset.get('datasets') or ()):
        yield from _of_data(inner, f'{path}.datasets.{number}')


class Schedules:
    """The schedules of a runner as its config has them, kept before those of a checkpoint replace them.

    Args:
        runner: With its optimizer and schedules built, before it resumes.
    """

    def __init__(self, runner: Runner) -> None:
        schedulers = runner.param_schedulers
        self._states = None
        if isinstance(schedulers, list) and all(isinstance(item, _ParamScheduler) for item in schedulers):
            self._states = [dict(item.state_dict()) for item in schedulers]
            self._groups = [
                {key: value for key, value in group.items() if key != 'params'}
                for group in runner.optim_wrapper.param_groups
            ]

    def take_over(self, runner: Runner, checkpoint: dict) -> str:
        """Where the config's schedules differ from the checkpoint's, go on as if they had been so from the start.

        Schedules that are the same are left as they were resumed.

        Returns:
            What was done, for the log; nothing if there was no difference.
        """
        former = checkpoint.get('param_schedulers')
        if self._states is None or not isinstance(former, list):
            return ''
        changes = list(self._changes(former))
        if not changes:
            return ''
        what = f'the schedule is not that of the checkpoint ({"; ".join(changes)})'
        remembering = [type(item).__name__ for item in runner.param_schedulers if hasattr(item, 'need_val_args')]
        if remembering:
            return f'{what}, and goes on as it was: {remembering[0]} depends on former metrics, which are not kept'
        self._replay(runner)
        return f'{what}: from here on it is as the config says, as if it had been so from the start'

    def _changes(self, former: list[dict]) -> Iterator[str]:
        if len(former) != len(self._states):
            yield f'{len(former)} parts were {"is" if len(self._states) == 1 else "are"} {len(self._states)}'
        for number, (before, now) in enumerate(zip(former, self._states, strict=False)):
            keys = before.keys() | now.keys()
            for key in sorted({'begin', 'end'} if 'patience' in keys else keys - PROGRESS):
                if before.get(key) != now.get(key):
                    name = f'param_scheduler.{number}.{key}'
                    if key == 'base_values':
                        old, new = (max(state.get(key) or [0.0]) for state in (before, now))
                        yield f'the highest rate was {old:g} and is {new:g}'
                    else:
                        yield f'{name} was {before.get(key)} and is {now.get(key)}'

    def _replay(self, runner: Runner) -> None:
        """Step the config's schedules from the start to where training is."""
        schedulers = runner.param_schedulers
        for scheduler, state in zip(schedulers, self._states, strict=True):
            scheduler.__dict__.clear()
            scheduler.__dict__.update(state, optimizer=runner.optim_wrapper)
        scheduled = {scheduler.param_name for scheduler in schedulers}
        scheduled |= {'betas'} if any(getattr(item, 'use_betas', False) for item in schedulers) else set()
        for group, fresh in zip(runner.optim_wrapper.param_groups, self._groups, strict=True):
            initial = {f'initial_{name}' for name in scheduled}
            group.update({key: fresh[key] for key in (scheduled | initial) & fresh.keys()})
        length = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # of an optimizer that has not stepped yet
            for iteration in range(1, runner.iter + 1):
                for scheduler in schedulers:
                    if not scheduler.by_epoch:
                        scheduler.step()
                if length and iteration % length == 0:
                    for scheduler in schedulers:
                        if scheduler.by_epoch:
                            scheduler.step()


def nothing_left(runner: Runner) -> str:
    """A sentence if a run has come to its end already; else nothing."""
    loop = runner.train_loop
    key, done, end = (
        ('max_epochs', runner.epoch, loop.max_epochs)
        if isinstance(loop, EpochBasedTrainLoop)
        else ('max_iters', runner.iter, loop.max_iters)
    )
    if done < end:
        return ''
    return f'the run has come to its end already ({done} of {end}): to go on, raise train_cfg.{key} and the schedule'
