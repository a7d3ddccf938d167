"""The lines at the start of a run."""

import re
from types import SimpleNamespace

import pytest
from test_engine.toy_line import train

from mmvim.engine import StartReportHook, start_report


def test_the_log_of_a_run_names_the_backend_and_the_speed(tmp_path):
    train(tmp_path, iterations=12, hooks=({'type': 'mmvim.StartReportHook'},))
    (log,) = tmp_path.glob('*/*.log')
    lines = log.read_text().splitlines()
    backend = next(number for number, line in enumerate(lines) if ' - scans: ' in line)
    speed = next(number for number, line in enumerate(lines) if ' - speed: ' in line)
    assert backend < speed
    assert ' threads' in lines[backend]
    assert re.search(r's per iteration, [\d.]+ images per second \(iterations 4 to 10\); done in 0:00:0', lines[speed])
    assert sum(' - speed: ' in line for line in lines) == 1


def test_the_first_iterations_do_not_count_and_a_resumed_run_starts_anew(monkeypatch):
    """Iterations take 100 s at first, then 2 s; there are 50 to go after the report."""
    lines, now = [], 0.0
    monkeypatch.setattr(start_report, 'clock', lambda: now)
    runner = SimpleNamespace(
        iter=30,
        max_iters=90,
        logger=SimpleNamespace(info=lines.append),
        train_dataloader=SimpleNamespace(batch_sampler=SimpleNamespace(batch_size=8)),
    )
    hook = StartReportHook()
    hook.before_train(runner)
    for done in range(1, 20):
        now += 100 if done <= 3 else 2
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1
    assert lines == [
        'speed: 2.000 s per iteration, 4.0 images per second (iterations 4 to 10); done in 0:01:40, validation not '
        'counted'
    ]


def test_without_warm_up_it_counts_from_the_start(monkeypatch):
    lines, now = [], 7.0
    monkeypatch.setattr(start_report, 'clock', lambda: now)
    runner = SimpleNamespace(
        iter=0,
        max_iters=3,
        logger=SimpleNamespace(info=lines.append),
        train_dataloader=SimpleNamespace(batch_sampler=SimpleNamespace(batch_size=1)),
    )
    hook = StartReportHook(warmup=0, report_at=1)
    hook.before_train(runner)
    now += 3
    hook.after_train_iter(runner, 0)
    assert lines[0].startswith(
        'speed: 3.000 s per iteration, 0.3 images per second (iterations 1 to 1); done in 0:00:06'
    )


def test_a_report_before_the_end_of_the_warm_up_is_refused():
    with pytest.raises(ValueError, match='warmup < report_at, got 10 and 10'):
        StartReportHook(warmup=10)
