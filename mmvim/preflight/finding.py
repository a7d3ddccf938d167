"""The answer to one question about what is there."""

from collections.abc import Iterable
from typing import NamedTuple

from mmvim.errors import UserError


class Finding(NamedTuple):
    """One answer.

    Attributes:
        subject: What was looked at.
        ok: Whether it is as it should be.
        found: What is there, or what is wrong.
        remedy: What to type or do; empty where there is nothing to be done.
        needed: Whether nothing goes on without it; otherwise something works less well, or is not there.
    """

    subject: str
    ok: bool
    found: str
    remedy: str = ''
    needed: bool = True

    @property
    def sentence(self) -> str:
        """What is wrong, and what to do about it."""
        return '; '.join(filter(None, (self.found, self.remedy)))


def demand(findings: Iterable[Finding], error: type[UserError]) -> None:
    """Go on only if everything that is needed was found.

    Raises:
        UserError: Of the class ``error``, with the sentence of the first finding that is not as it should be.
    """
    for finding in findings:
        if finding.needed and not finding.ok:
            raise error(finding.sentence)


def show(findings: Iterable[Finding], title: str) -> None:
    """Print findings, then what to type; the commands are outside the table so that they can be copied."""
    findings = list(findings)
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for finding in findings:
            print(f'{_status(finding):<9} {finding.subject:<13} {finding.found}')
    else:
        table = Table('', '', 'found', title=title, title_justify='left', show_edge=False)
        colours = {'ok': 'green', 'optional': 'yellow', 'missing': 'red'}
        for finding in findings:
            status = _status(finding)
            table.add_row(f'[{colours[status]}]{status}[/]', finding.subject, finding.found.replace('[', r'\['))
        Console().print(table)
    remedies = dict.fromkeys((finding.subject, finding.remedy) for finding in findings if not finding.ok)
    remedies = [(subject, remedy) for subject, remedy in remedies if remedy]
    if remedies:
        print('\nWhat to type, from the checkout:')
        for subject, remedy in remedies:
            print(f'  {subject}: {remedy}')


def _status(finding: Finding) -> str:
    return 'ok' if finding.ok else 'missing' if finding.needed else 'optional'


def summary(error: Exception) -> str:
    """An exception in one short line."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:160]}' if lines else type(error).__name__
