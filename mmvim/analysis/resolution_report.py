"""Table and picture of the study of resolutions."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from rich.console import Console
from rich.table import Table

from mmvim.files import write_whole

from .cost import colour_of
from .measure import markdown
from .study import spread

Results = Sequence[dict[str, Any]]
_KINDS = {'drawn': 'mIoU, drawn at this size', 'enlarged': 'mIoU, enlarged to it', 'ms': 'processor, ms per image'}


def show(results: Results, console: Console) -> None:
    """Print mIoU and time, a row per model and size."""
    rows = _table(results)
    table = Table(*rows[0], title='mIoU in percent, mean ± standard deviation of the seeds', title_justify='left')
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*row.values(), end_section=following is None or following['model'] != row['model'])
    console.print(table)


def write(results: Results, budget: dict[str, Any], about: dict[str, str], folder: Path) -> list[Path]:
    """The table, all numbers and the picture as ``resolution.md``, ``.json`` and ``.png``; the files."""
    paths = [folder / f'resolution.{suffix}' for suffix in ('md', 'json', 'png')]
    cpu = sum(result['cpu_seconds'] for result in results) / 60
    about = {**about, 'budget': ', '.join(f'{key} {value}' for key, value in budget.items())}
    about['processor time of all runs'] = f'{cpu:.1f} minutes'
    write_whole(paths[0], markdown('Tested at other sizes than trained', about, _table(results)))
    summary = {'about': about, 'budget': budget, 'rows': list(results)}
    write_whole(paths[1], json.dumps(summary, indent=2) + '\n')
    draw(results, budget['side']).savefig(paths[2], dpi=100)
    return paths


def _series(results: Results, kind: str) -> dict[str, dict[int, list[float]]]:
    """Model -> size -> the values of its seeds."""
    series: dict[str, dict[int, list[float]]] = {}
    for result in results:
        for row in result['sizes']:
            series.setdefault(result['model'], {}).setdefault(row['size'], []).append(row[kind])
    return series


def _table(results: Results) -> list[dict[str, str]]:
    series = {kind: _series(results, kind) for kind in _KINDS}
    parameters = {result['model']: f'{result["parameters"] / 1e6:.2f}' for result in results}
    return [
        {
            'model': model,
            'parameters, M': parameters[model],
            'image side': str(size),
            _KINDS['drawn']: spread(series['drawn'][model][size]),
            _KINDS['enlarged']: spread(series['enlarged'][model][size]),
            _KINDS['ms']: f'{min(series["ms"][model][size]):.1f}',
        }
        for model, sizes in series['drawn'].items()
        for size in sizes
    ]


def draw(results: Results, trained: int) -> Figure:
    """mIoU of scenes drawn at each size, of scenes enlarged to it, and time, a line per model.

    Args:
        results: Of :func:`mmvim.analysis.resolution.train_and_test`.
        trained: Side in pixels of the images of the training.
    """
    figure = Figure(figsize=(14, 4.8), layout='constrained')
    titles = {
        'drawn': 'mIoU in percent, scenes drawn at this size:\nlarger objects, textures as fine as ever',
        'enlarged': f'mIoU in percent, scenes of {trained} x {trained} enlarged:\nlarger objects, coarser textures',
        'ms': 'processor time of one image, ms,\none thread, best of all seeds',
    }
    for axis, (kind, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for model, sizes in _series(results, kind).items():
            values = [min(found) if kind == 'ms' else statistics.mean(found) for found in sizes.values()]
            axis.plot(list(sizes), values, 'o-', color=colour_of(model), label=model, markersize=4)
            if kind != 'ms':
                low, high = ([pick(found) for found in sizes.values()] for pick in (min, max))
                axis.fill_between(list(sizes), low, high, color=colour_of(model), alpha=0.15, linewidth=0)
        axis.axvline(trained, color='grey', linestyle=':', linewidth=1)
        axis.set(xscale='log', xlabel='image side, pixels')
        axis.set_xticks(list(sizes), map(str, sizes))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(title, loc='left', fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[['top', 'right']].set_visible(False)
        if kind == 'ms':
            axis.set_yscale('log')
            axis.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        else:
            axis.set_ylim(bottom=0)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(f'Trained at {trained} (dotted), tested at others; shaded: from the worst to the best seed')
    return figure
