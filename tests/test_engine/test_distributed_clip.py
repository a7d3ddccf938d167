"""Images and captions of two processes are one batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp('ranks')
    script = Path(__file__).with_name('clip_ranks.py')
    tests = script.parents[1]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{tests.parent}{os.pathsep}{tests}'}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-1500:]
    return {path.stem: torch.load(path) for path in folder.glob('*.pth')}


@pytest.mark.parametrize('kind', ['plain', 'staged'])
def test_loss_and_every_gradient_equal_those_of_one_process(results: dict[str, dict], kind: str) -> None:
    single, first, second = (results[name][kind] for name in ('single', 'rank_0', 'rank_1'))
    assert abs(single['loss'] - (first['loss'] + second['loss']) / 2) < 1e-5
    assert abs(first['loss'] - second['loss']) > 1e-3  # they did see different pairs
    assert {'log_scale', 'image_projection.weight', 'text.vocabulary.weight'} <= single['gradients'].keys()
    for name, gradient in single['gradients'].items():
        assert gradient.abs().max() > 0, name
        for other in (first, second):
            assert (other['gradients'][name] - gradient).abs().max() <= 1e-5 * max(1, gradient.abs().max()), name
