"""Table and picture of the study of initialisations and activations."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from rich.console import Console
from rich.table import Table

from mmvim.files import write_whole

from .erf import SHARES, area, draw_field
from .measure import markdown
from .robustness import field_of
from .study import spread

_COLOURS = {'mamba': '#1f5fa8', 'random': '#c8553d', 'zero': '#3a8f5c', 'xavier': '#8a5bb5', 'he': '#b8860b'}
_TITLES = {'silu': 'SiLU', 'gelu': 'GELU', 'relu': 'ReLU', 'xavier': 'Xavier', 'he': 'He'}
_SMOOTHED = 25  # iterations whose mean is drawn

Results = Sequence[dict[str, Any]]


def show(results: Results, console: Console) -> None:
    """Print mIoU with its spread, a row per initialisation, a column per activation."""
    rows = _table(results)
    table = Table(*rows[0], title='mIoU in percent, mean ± standard deviation of the seeds', title_justify='left')
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def write(results: Results, budget: dict[str, Any], about: dict[str, str], folder: Path) -> list[Path]:
    """The table, all numbers and the picture as ``robustness.md``, ``.json`` and ``.png``; the files."""
    paths = [folder / f'robustness.{suffix}' for suffix in ('md', 'json', 'png')]
    cpu = sum(result['cpu_seconds'] for result in results) / 60
    about = {**about, 'budget': ', '.join(f'{key} {value}' for key, value in budget.items())}
    about['processor time of all runs'] = f'{cpu:.1f} minutes'
    write_whole(paths[0], markdown('Initialisation and activation of VMamba', about, _table(results)))
    kept = ('init', 'activation', 'seed', 'mIoU', 'seconds', 'cpu_seconds', 'loss')
    rows = [{key: result[key] for key in kept} for result in results]
    write_whole(paths[1], json.dumps({'about': about, 'budget': budget, 'rows': rows}, indent=2) + '\n')
    draw(results).savefig(paths[2], dpi=100)
    return paths


def _values(results: Results, key: str) -> list[str]:
    return list(dict.fromkeys(result[key] for result in results))


def _of(results: Results, **wanted: str) -> list[dict[str, Any]]:
    return [result for result in results if all(result[key] == value for key, value in wanted.items())]


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _table(results: Results) -> list[dict[str, str]]:
    rows = []
    for init in _values(results, 'init'):
        row = {'initialisation': _title(init)}
        for act in _values(results, 'activation'):
            found = [result['mIoU'] for result in _of(results, init=init, activation=act)]
            row[_title(act)] = spread(found) if found else ''
        rows.append(row)
    return rows


def draw(results: Results) -> Figure:
    """mIoU of every run, losses for each activation, and fields before and after training for each initialisation."""
    figure = Figure(figsize=(15, 11), layout='constrained')
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    activations = _values(results, 'activation')
    first, *others = above.subplots(1, 1 + len(activations), width_ratios=(1.3, *[1] * len(activations)))
    _draw_miou(first, results)
    for axis, act in zip(others, activations, strict=True):
        _draw_losses(axis, _of(results, activation=act), _title(act))
    highest = max(axis.get_ylim()[1] for axis in others)
    for axis in others:
        axis.set_ylim(0, highest)
    others[0].set_ylabel(f'loss, mean over seeds and {_SMOOTHED} iterations')
    _draw_fields(below, _of(results, activation=activations[0]), _title(activations[0]))
    return figure


def _draw_miou(axis: Axes, results: Results) -> None:
    activations, inits = _values(results, 'activation'), _values(results, 'init')
    for place, act in enumerate(activations):
        for number, init in enumerate(inits):
            found = [result['mIoU'] for result in _of(results, init=init, activation=act)]
            x = place + (number - (len(inits) - 1) / 2) * 0.8 / len(inits)
            axis.plot([x] * len(found), found, 'o', color=_COLOURS[init], alpha=0.7, markersize=5)
            if found:
                axis.plot([x - 0.06, x + 0.06], [statistics.mean(found)] * 2, color=_COLOURS[init], linewidth=2.5)
    for init in inits:
        axis.plot([], [], 'o-', color=_COLOURS[init], label=_title(init))
    axis.set_xticks(range(len(activations)), map(_title, activations))
    axis.set_title('mIoU in percent: a dot per seed, a line at the mean', loc='left', fontsize=10)
    axis.legend(frameon=False, ncols=2, fontsize=9)
    _plain(axis)


def _draw_losses(axis: Axes, results: Results, title: str) -> None:
    for init in _values(results, 'init'):
        curves = np.array([result['loss'] for result in _of(results, init=init)])
        window = min(_SMOOTHED, curves.shape[1])
        smooth = np.convolve(curves.mean(0), np.ones(window) / window, 'valid')
        axis.plot(np.arange(window, curves.shape[1] + 1), smooth, color=_COLOURS[init], linewidth=1.4)
    axis.set(xlabel='iteration')
    axis.set_title(title, loc='left', fontsize=10)
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.grid(alpha=0.25)
    axis.spines[['top', 'right']].set_visible(False)


def _draw_fields(figure: SubFigure, results: Results, activation: str) -> None:
    inits = _values(results, 'init')
    grid = figure.subplots(2, len(inits), squeeze=False)
    for line, when in zip(grid, ('before', 'after'), strict=True):
        line[0].set_ylabel(f'{when} training', fontsize=11)
        for axis, init in zip(line, inits, strict=True):
            field = field_of(_of(results, init=init), when)
            drawn = draw_field(axis, field)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel('   '.join(_held(field)), fontsize=9)
    for axis, init in zip(grid[0], inits, strict=True):
        axis.set_title(_title(init), color=_COLOURS[init])
    bar = figure.colorbar(drawn, ax=grid, label='contribution / largest', shrink=0.8, pad=0.01)
    bar.outline.set_visible(False)
    figure.suptitle(
        f'Effective receptive field of the middle of the last map, {activation}, mean over seeds\nbelow: part of the '
        'area of the smallest square with 50 % (solid) and 99 % (dashed) of all contributions',
        fontsize=10,
    )


def _held(field: Any) -> Iterator[str]:
    return (f'{100 * share:.0f} % in {100 * area(field, share):.1f} %' for share in SHARES)
