"""The table of an evaluation as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvim.files import write_whole
from mmvim.markdown import markdown_table

from .state import State
from .table import TOLERANCE, Job, rows

_NAME = 'results'
# Of what is known of the machine: what no row needs, since it differs from run to run or stands elsewhere.
_OF_ONE_RUN = ('load before the run', 'date', 'torch')


def write_report(jobs: Sequence[Job], state: State, folder: Path) -> list[Path]:
    """Write ``results.md``, ``results.csv`` and ``results.json`` into a folder.

    Args:
        jobs: In the order of the table.
        state: What was done.
        folder: Of the files.

    Returns:
        The files.
    """
    table = rows(jobs, state)
    failures = {job.name: state.failures[job.name]['message'] for job in jobs if job.name in state.failures}
    texts = {
        'md': _as_markdown(table, failures),
        'csv': _as_csv(table, failures),
        'json': json.dumps({'results': table, 'failures': failures}, indent=2) + '\n',
    }
    files = []
    for suffix, text in texts.items():
        files.append(folder / f'{_NAME}.{suffix}')
        write_whole(files[-1], text)
    return files


def _as_markdown(table: Sequence[dict[str, Any]], failures: dict[str, str]) -> str:
    header = [
        'model',
        'metric',
        'precision',
        'published',
        'measured',
        'difference',
        'images/s',
        'peak memory',
        'test batch',
    ]
    lines = [
        [
            row['model'],
            row['metric'],
            row['precision'],
            '-' if row['published'] is None else f'{row["published"]:g} ({row["source"]})',
            f'{row["measured"]:.2f}',
            '-' if row['difference'] is None else f'{row["difference"]:+.2f}{" **!**" if row["marked"] else ""}',
            f'{row["images/s"]:.1f}',
            f'{row["peak memory (MiB)"]} MiB',
            f'{row["test batch"]}' + (f' x {row["processes"]}' if row['processes'] > 1 else ''),
        ]
        for row in table
    ]
    parts = ['# Evaluation of published weights\n', markdown_table(header, lines)]
    parts.append(
        f'**!** marks a number that is more than {TOLERANCE} from the published one. Images per second are those of '
        'model and metric, without loading; memory is that of tensors on a GPU, of the whole process on a CPU.\n'
    )
    parts += [f'{place}\n' for place in _places(table)]
    if failures:
        parts.append('## Failed\n\n' + ''.join(f'- {name}: {message}\n' for name, message in failures.items()))
    return '\n'.join(parts)


def _places(table: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each machine and its versions; not every row needs every package."""
    versions: dict[str, dict[str, str]] = {}
    for row in table:
        machine = {key: value for key, value in row['machine'].items() if key not in _OF_ONE_RUN}
        versions.setdefault(_listed(machine), {}).update(row['versions'])
    return [f'{machine}, {_listed(packages)}' for machine, packages in versions.items()]


def _listed(values: dict[str, str]) -> str:
    return ', '.join(f'{name} {value.removeprefix(f"{name}: ")}' for name, value in values.items())


def _as_csv(table: Sequence[dict[str, Any]], failures: dict[str, str]) -> str:
    text = io.StringIO()
    columns = [key for key in (table[0] if table else {'model': ''}) if key not in ('machine', 'versions')]
    writer = csv.DictWriter(text, [*columns, 'versions', 'failure'], extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    for row in table:
        writer.writerow({**row, 'versions': ' '.join(_places([row]))})
    for name, message in failures.items():
        writer.writerow({'model': name, 'failure': message})
    return text.getvalue()
