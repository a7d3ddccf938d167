"""Findings and statistics of data for people, in lines that can be copied."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .checker import Statistics
from .tally import Kind, Seen, Severity, Tally

COLOURS = {Severity.ERROR: 'red', Severity.LEFT_OUT: 'yellow', Severity.WARNING: 'yellow', Severity.NOTE: 'blue'}
BARS = 30
NAMES = 20


def ordered(tally: Tally) -> list[tuple[Kind, Seen]]:
    """Faults, the gravest first."""
    grades = list(Severity)
    return sorted(tally, key=lambda fault: grades.index(fault[0].severity))


def show_table(name: str, tally: Tally, console: Console, named: int = 3) -> None:
    """Print what was found: how grave, how many, what, the first places, and what to do.

    Args:
        name: What was checked.
        tally: What was found.
        console: Where to print.
        named: How many places of each kind.
    """
    console.print(f'[bold]{escape(name)}[/]', soft_wrap=True, highlight=False)
    if not list(tally):
        console.print('  [green]nothing to complain about[/]', highlight=False)
    for kind, seen in ordered(tally):
        colour = COLOURS[kind.severity]
        head = f'  [{colour}]{kind.severity.value:<8}[/] {seen.count:>7}  {escape(kind.what)}'
        console.print(head, soft_wrap=True, highlight=False)
        for place in _first(seen, 10 if 'missing' in kind.what else named):
            console.print(f'{"":20}{escape(place)}', soft_wrap=True, highlight=False)
        console.print(f'{"":18}→ {escape(kind.remedy)}', soft_wrap=True, highlight=False)


def _first(seen: Seen, named: int) -> Iterable[str]:
    yield from seen.places[:named]
    if seen.count > min(len(seen.places), named):
        yield '...'


def lines(tally: Tally) -> Iterable[str]:
    """One line for each kind that training goes on with."""
    for kind, seen in ordered(tally):
        if kind.severity is not Severity.ERROR:
            more = f' (the first: {seen.places[0]})' if seen.places else ''
            yield f'data, {kind.severity.value}: {seen.count} {kind.what}{more}; {kind.remedy}'


def sentence(tally: Tally) -> str:
    """The gravest faults of a tally that has errors, in one sentence."""
    errors = [(kind, seen) for kind, seen in tally if kind.severity is Severity.ERROR]
    kind, seen = errors[0]
    count = f' ({seen.count})' if seen.count > 1 else ''
    said = f'The data cannot be used: {kind.what}{count}: {seen.places[0]}; {kind.remedy}'
    others = ' Other errors are listed above.' if len(errors) > 1 else ''
    return f'{said}{others} (--no-data-check leaves the check out.)'


def show_statistics(name: str, statistics: Statistics, console: Console) -> None:
    """Print facts, a bar for each class that is there, and the names of those that are not."""
    console.print(f'[bold]{escape(name)}[/]', soft_wrap=True, highlight=False)
    for fact, value in statistics.facts.items():
        console.print(f'  {escape(fact):<36}{escape(value)}', soft_wrap=True, highlight=False)
    if not any(statistics.classes.values()):
        return
    counts = statistics.classes.values()
    total, most = sum(counts), max(counts)
    bars = Table('class', statistics.unit, '', '', show_edge=False)
    for column in (1, 2):
        bars.columns[column].justify = 'right'
    for label, count in sorted(statistics.classes.items(), key=lambda item: -item[1]):
        if count:
            bar = '█' * round(BARS * count / most) or '▏'
            bars.add_row(escape(str(label)), str(count), f'{count / total:.1%}', bar)
    console.print(bars)
    absent = [str(label) for label, count in statistics.classes.items() if not count]
    if absent:
        more = f' and {len(absent) - NAMES} more' if len(absent) > NAMES else ''
        console.print(f'  none: {escape(", ".join(absent[:NAMES]))}{more}', soft_wrap=True, highlight=False)
