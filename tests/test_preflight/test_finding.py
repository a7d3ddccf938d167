"""One form for every answer about what is there."""

import sys

import pytest

from mmvim.errors import UserFileNotFoundError
from mmvim.preflight.finding import Finding, demand, show

GOOD = Finding('sun', True, 'shines')
BAD = Finding('moon', False, 'there is no moon', 'wait')
SMALL = Finding('stars', False, 'there are no stars', 'put out the light', needed=False)


def test_the_first_that_is_needed_and_missing_is_said() -> None:
    with pytest.raises(UserFileNotFoundError, match='^there is no moon; wait$'):
        demand([GOOD, SMALL, BAD, BAD._replace(found='not this one')], UserFileNotFoundError)


def test_nothing_is_said_where_nothing_is_missing() -> None:
    demand([GOOD, SMALL], UserFileNotFoundError)
    assert GOOD.sentence == 'shines'


def test_later_questions_are_not_asked() -> None:
    def answers():
        yield BAD
        raise AssertionError('asked on')

    with pytest.raises(UserFileNotFoundError):
        demand(answers(), UserFileNotFoundError)


@pytest.mark.parametrize('rich', [True, False])
def test_table_and_remedies(rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name in () if rich else ('rich.console', 'rich.table'):
        monkeypatch.setitem(sys.modules, name, None)
    show([GOOD, BAD, SMALL, BAD._replace(found='[none] here')], 'sky')
    output = capsys.readouterr().out
    words = [line.replace('│', ' ').split() for line in output.splitlines() if 'there' in line or 'shines' in line]
    rows = {subject: status for status, subject, *_ in words}
    assert rows == {'sun': 'ok', 'moon': 'missing', 'stars': 'optional'}
    assert '[none] here' in output
    assert output.count('  moon: wait') == 1 and '  stars: put out the light' in output
    assert '  sun:' not in output
