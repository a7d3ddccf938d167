"""What holds for every test: in CI nothing is skipped quietly."""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED_REASON = 'needs a GPU'

# Several workers of pytest-xdist share the cores: each, and what it starts, has one thread.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')


def _refuse_skip(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Turn a skip into a failure in CI, unless its reason says that the test needs a GPU."""
    if os.environ.get('CI') != 'true' or not report.skipped or hasattr(report, 'wasxfail'):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if ALLOWED_REASON not in reason:
        report.outcome = 'failed'
        report.longrepr = f'CI allows no skip but "{ALLOWED_REASON}": {reason}'


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the outcome of each test."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at modules that skip themselves, as importorskip makes them."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(autouse=True)
def no_traces_of_earlier_runs() -> Generator[None, None, None]:
    """Forget mmengine's default scope, visualizers and messages after a test: they live as long as the process."""
    yield
    if 'mmengine' in sys.modules:
        from mmengine.logging import MessageHub
        from mmengine.registry import DefaultScope
        from mmengine.visualization import Visualizer

        for manager in (DefaultScope, MessageHub, Visualizer, *Visualizer.__subclasses__()):
            manager._instance_dict.clear()


@pytest.fixture
def own_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes that a test spawns, which get its path: not the packages that other tests take from elsewhere."""
    monkeypatch.setattr(sys, 'path', [place for place in sys.path if Path(place).parts[-4:-3] != ('elsewhere',)])
