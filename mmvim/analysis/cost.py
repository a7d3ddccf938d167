"""What models cost over the image size: parameters, operations, time and peak memory of a forward pass."""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from mmvim.catalogue import FAMILIES
from mmvim.engine.cpu import keep_freed_memory
from mmvim.engine.oom import is_out_of_memory
from mmvim.files import write_whole
from mmvim.machine import free_memory

from .flops import RULE, count_operations
from .measure import forbid_more_memory, in_child, markdown, peak_memory, time_call
from .models import build, title

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class Case(NamedTuple):
    """One measurement: a model on square images.

    Attributes:
        model: A name of :mod:`mmvim.analysis.models`.
        size: Side of the images in pixels.
        batch: Images at once.
        device: ``'cpu'`` or ``'cuda'``.
        dtype: A key of :data:`DTYPES`; all but ``'fp32'`` by autocast.
    """

    model: str
    size: int
    batch: int = 1
    device: str = 'cpu'
    dtype: str = 'fp32'


class Cost(NamedTuple):
    """Best and median seconds of one call, and bytes at its peak above the loaded model and the images."""

    best: float
    median: float
    memory: int


def count(case: Case) -> tuple[int, int]:
    """Parameters and operations per image of a model, without computing anything."""
    with torch.device('meta'):
        model, image = build(case.model, case.size), torch.rand(1, 3, case.size, case.size)
    return sum(p.numel() for p in model.parameters()), count_operations(model, image)['total']


def measure(case: Case, seconds: float) -> Cost:
    """Memory of the first call, then the time of further ones, in this process, which should be a fresh one.

    Raises:
        MemoryError: If the model does not fit.
    """
    if case.device == 'cpu':
        keep_freed_memory()  # as tools/train.py does, for every model
        free = free_memory()
        forbid_more_memory(int(0.9 * free))
    else:
        free = torch.cuda.mem_get_info()[0]
    try:
        return _measure(case, seconds)
    except RuntimeError as error:  # torch's own class on a GPU is one of them
        if is_out_of_memory(error):
            raise MemoryError(f'does not fit into the {free / 1e9:.1f} GB that were free') from None
        raise


def _measure(case: Case, seconds: float) -> Cost:
    torch.manual_seed(0)
    model = build(case.model, case.size).to(case.device)
    image = torch.randn(case.batch, 3, case.size, case.size, device=case.device)

    @torch.inference_mode()
    def call() -> None:
        with torch.autocast(case.device, DTYPES[case.dtype], enabled=case.dtype != 'fp32'):
            model(image)

    call()  # libraries load their code and take their workspaces, which are no memory of a pass
    memory = peak_memory(call, case.device)
    timing = time_call(call, seconds, least=2, device=case.device)
    return Cost(timing.best, timing.median, memory)


def survey(
    cases: Iterable[Case], seconds: float, limit: float, finished: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Measure one case after the other, each in a process of its own.

    A model that does not fit into memory or time at one size is not tried at larger ones.

    Args:
        cases: In the order of the measurements.
        seconds: How long each is timed.
        limit: Seconds after which a measurement is given up.
        finished: Called with every row.

    Returns:
        One row per case; ``'note'`` says why there are no figures.
    """
    rows: list[dict[str, Any]] = []
    given_up: dict[str, str] = {}
    for case in cases:
        row: dict[str, Any] = {**case._asdict(), 'title': title(case.model)}
        if case.model in given_up:
            row['note'] = given_up[case.model]
        else:
            try:
                row['parameters'], row['operations'] = count(case)
                row.update(in_child(measure, case, seconds, timeout=limit)._asdict())
            except (MemoryError, TimeoutError, ImportError, ChildProcessError) as error:
                row['note'] = str(error)
                given_up[case.model] = f'not tried: {case.size} x {case.size}: {error}'
        rows.append(row)
        finished(row)
    return rows


def write(rows: list[dict[str, Any]], about: dict[str, str], folder: Path) -> list[Path]:
    """Tables and picture of the rows of :func:`survey` as ``cost.md``, ``cost.json`` and ``cost.png``."""
    table = [
        {
            'model': row['title'],
            'image side': row['size'],
            'parameters, M': _rounded(row, 'parameters', 1e6, 1),
            'operations per image, G': _rounded(row, 'operations', 1e9, 2),
            'best, ms per image': _rounded(row, 'best', 1e-3 * row['batch'], 2),
            'median, ms per image': _rounded(row, 'median', 1e-3 * row['batch'], 2),
            'peak memory, MB': _rounded(row, 'memory', 1e6, 1),
            'note': row.get('note', ''),
        }
        for row in rows
    ]  # fmt: skip
    about = {
        **about,
        'operations': RULE,
        'peak memory': 'of a forward pass, above the loaded model and the images; each in a process of its own',
    }
    paths = [folder / f'cost.{suffix}' for suffix in ('md', 'json', 'png')]
    write_whole(paths[0], markdown('Cost over the image size', about, table))
    write_whole(paths[1], json.dumps({'about': about, 'rows': rows}, indent=2) + '\n')
    if not any('best' in row for row in rows):
        return paths[:2]
    draw(rows, about).savefig(paths[2], dpi=150)
    return paths


def _rounded(row: dict[str, Any], key: str, unit: float, digits: int) -> float | str:
    return round(row[key] / unit, digits) if key in row else ''


def draw(rows: list[dict[str, Any]], about: dict[str, str]) -> Figure:
    """Time and memory over the image size, a line per model with its name at the end, all axes logarithmic."""
    figure = Figure(figsize=(13, 5.6), layout='constrained')
    missing = [row for row in rows if 'note' in row]
    rows = [row for row in rows if 'best' in row]
    first = rows[0]
    panels = {'time per image, ms': ('best', 1e-3 * first['batch']), 'peak memory above the model, MB': ('memory', 1e6)}
    for axis, (label, (key, unit)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        ends = {}
        for name in dict.fromkeys(row['model'] for row in rows):
            mine = [row for row in rows if row['model'] == name]
            sizes, values = [row['size'] for row in mine], [row[key] / unit for row in mine]
            colour = colour_of(mine[0]['title'])
            style = '--' if name.endswith('naive') else '-'
            axis.plot(sizes, values, style, color=colour, marker='o', markersize=4, linewidth=1.8)
            text = f'{mine[0]["title"]} ({mine[0]["parameters"] / 1e6:.0f}M)'
            ends[text] = sizes[-1], values[-1], colour
        _decorate(axis, label, sorted({row['size'] for row in rows}))
        _label_ends(axis, ends)
    images = 'one image' if first['batch'] == 1 else f'{first["batch"]} images at once'
    where = about.get('card', about.get('processor', ''))
    threads = f', {about["threads"]} threads' if first['device'] == 'cpu' and 'threads' in about else ''
    stops = {row['model']: row for row in reversed(missing)}  # the first of each model
    figure.supxlabel('\n'.join(f'{row["title"]} at {row["size"]}: {row["note"]}' for row in stops.values()), fontsize=9)
    figure.suptitle(f'Forward pass of {images}, {first["dtype"]}: {where}{threads}, torch {torch.__version__}')
    return figure


def colour_of(title: str) -> str:
    """The colour of a model in every picture, by its name in tables."""
    colours = {key: colour for family in FAMILIES.values() for key, colour in family.colours.items()}
    return colours.get(re.split('[-,]', title)[0], 'black')


def _decorate(axis: Axes, label: str, sizes: list[int]) -> None:
    axis.set(xscale='log', yscale='log', xlabel='image side, pixels')
    axis.set_title(label, loc='left')
    axis.set_xticks(sizes, sizes, fontsize=9)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter('{x:,.10g}'))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25)
    axis.spines[['top', 'right']].set_visible(False)


def _label_ends(axis: Axes, ends: dict[str, tuple[float, float, str]], gap: float = 0.05) -> None:
    """Write the names right of the lines' ends, at least ``gap`` of the axis apart; of lines that stop early, there."""
    bottom, top = map(math.log10, axis.get_ylim())
    right = max(x for x, _, _ in ends.values())
    whole = []
    for text, (x, y, colour) in sorted(ends.items(), key=lambda item: item[1][1]):
        if x == right:
            whole.append((text, (x, y), colour, (math.log10(y) - bottom) / (top - bottom)))
        else:
            axis.annotate(text, (x, y), (-6, 3), textcoords='offset points', color=colour, ha='right', fontsize=10)
    # Halfway between pushing the names up and pushing them down, which both keep the gap.
    up, down = [], []
    for *_, place in whole:
        up.append(max(place, up[-1] + gap if up else -math.inf))
    for *_, place in reversed(whole):
        down.append(min(place, down[-1] - gap if down else math.inf))
    for (text, end, colour, _), high, low in zip(whole, up, reversed(down), strict=True):
        arrow = {'arrowstyle': '-', 'color': colour, 'alpha': 0.5, 'linewidth': 0.8, 'shrinkA': 0, 'shrinkB': 3}
        axis.annotate(
            text, end, (1.05, (high + low) / 2), textcoords='axes fraction', color=colour, va='center', fontsize=10,
            arrowprops={**arrow, 'relpos': (0, 0.5)}, annotation_clip=False,
        )  # fmt: skip
    axis.set_xlim(right=right * 1.02)
