"""Evaluation over miniature data sets with small models: all tasks, killed and resumed, and what may be wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from test_zoo.small import ROOT, arguments, make_place

from mmvim.catalogue import Model
from mmvim.checkpoints import load_model, read
from mmvim.commands.zoo import main
from mmvim.registry import MODELS as REGISTRY


@pytest.fixture(scope='module')
def models(place: Path) -> list[Model]:
    return make_place(place)


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('zoo')


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTHONWARNINGS', 'ignore')
    monkeypatch.setenv('COLUMNS', '1000')


def state(folder: Path) -> dict:
    path = folder / 'state.json'
    return json.loads(path.read_text()) if path.is_file() else {'results': {}, 'failures': {}}


def wait_until(condition: Callable[[], bool], fault: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, fault
        time.sleep(0.05)


def top1(model: Model, place: Path) -> float:
    """Worked out without a runner."""
    classifier = REGISTRY.build(Config.fromfile(model.config).model).eval()
    load_model(classifier, read(place / 'weights' / model.weights.name), 'weights')
    right = []
    for label, folder in enumerate(sorted((place / 'data/imagenet/imagenet/val').iterdir())):
        for path in sorted(folder.iterdir()):
            # 64 x 96: the short side becomes 36, the middle 32 x 32 are cut out.
            image = np.asarray(Image.open(path).resize((54, 36), Image.Resampling.BICUBIC))[2:34, 11:43]
            pixels = torch.tensor(image).permute(2, 0, 1)
            data = classifier.data_preprocessor({'inputs': [pixels]})
            with torch.no_grad():
                right.append(int(classifier(data['inputs']).argmax()) == label)
    return 100 * sum(right) / len(right)


def miou_of_sky(place: Path) -> float:
    """Of a model that sees sky everywhere: labels on disk begin at 1, 0 does not count."""
    folder = place / 'data/ade/ADEChallengeData2016/annotations/validation'
    labels = np.concatenate([np.asarray(Image.open(path)).ravel() for path in folder.iterdir()])
    labels = labels[labels > 0]
    return 100 * (labels == 3).mean() / len({3, *labels})


def test_killed_and_resumed(place: Path, models: list[Model], capsys: pytest.CaptureFixture) -> None:
    out = place / 'out'
    command = [sys.executable, str(ROOT / 'tests/test_zoo/small.py'), str(place), *arguments(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
    third = out / models[2].name / 'log.txt'
    wait_until(third.exists, 'the third model was not begun')
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    wait_until(children.read_text, 'the third test was not begun')  # a moment after its log
    (child,) = children.read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not Path(f'/proc/{child}').exists(), 'the test goes on without the evaluation that started it')
    before = state(out)
    assert set(before['results']) == {model.name for model in models[:2]}
    assert [row['model'] for row in json.loads((out / 'results.json').read_text())['results']][-1] == models[1].name

    assert main(arguments(place), models) == 0
    said = capsys.readouterr().out
    assert said.count('(evaluated before)') == 2
    assert '4 evaluated, 0 failed' in said
    after = state(out)
    assert {name: after['results'][name] for name in before['results']} == before['results']
    assert not after['failures']

    table = {(row['model'], row['metric']): row for row in json.loads((out / 'results.json').read_text())['results']}
    for model in models[:2]:
        assert table[model.name, 'top-1']['measured'] == pytest.approx(top1(model, place))
        assert table[model.name, 'top-5']['measured'] == 100
        assert table[model.name, 'top-1']['test batch'] == 64
    sky = table['upernet_vmamba_small_ade20k', 'mIoU']
    assert sky['measured'] == pytest.approx(miou_of_sky(place), abs=0.01)
    assert sky['difference'] == pytest.approx(sky['measured'] - 47.9)
    assert sky['marked'] and sky['test batch'] == 1 and sky['images'] == 2
    assert ('upernet_vmamba_small_ade20k', 'mIoU (ms+flip)') not in table
    for metric in ('box AP', 'mask AP'):
        row = table['mask_rcnn_vmamba_small_coco', metric]
        assert 0 <= row['measured'] <= 100, 'COCO says -1 where there is nothing to find'
        assert row['versions']['mmdet'] and row['machine']['scans'] and len(row['sha256']) == 64
        assert row['images/s'] > 0 and row['peak memory (MiB)'] > 50
    text = (out / 'results.md').read_text()
    assert f'| upernet_vmamba_small_ade20k | mIoU | fp32 | 47.9 (nowhere) | {sky["measured"]:.2f} |' in text
    with (out / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [(row['model'], row['metric'], float(row['measured'])) for row in rows] == [
        (*key, row['measured']) for key, row in table.items()
    ]

    # Nothing is left to do, and another selection keeps what is in the table.
    assert main(arguments(place, '--task', 'imagenet'), models) == 0
    assert capsys.readouterr().out.count('(evaluated before)') == 2
    assert (out / 'results.md').read_text() == text


def test_precisions_stand_side_by_side(place: Path, models: list[Model], capsys: pytest.CaptureFixture) -> None:
    """Each is evaluated, kept and gone on with by itself."""
    detector = models[3].name
    options = arguments(place, '--out', place / 'precisions', '--models', detector)

    def rows() -> dict[tuple[str, str], dict]:
        table = json.loads((place / 'precisions' / 'results.json').read_text())['results']
        return {(row['metric'], row['precision']): row for row in table}

    assert main([*options, '--amp'], models) == 0
    assert main(options, models) == 0
    found = rows()
    assert len(found) == 4 and {precision for _, precision in found} == {'fp32', 'bf16'}
    for (metric, precision), row in found.items():
        assert row['measured'] == pytest.approx(found[metric, 'fp32']['measured'], abs=0.3), precision
    log = (place / 'precisions' / f'{detector}+amp' / 'log.txt').read_text()
    assert '--amp: ' in log
    capsys.readouterr()
    assert main([*options, '--amp'], models) == main(options, models) == 0
    assert capsys.readouterr().out.count('(evaluated before)') == 2
    assert rows() == found
    assert '| box AP | bf16 |' in (place / 'precisions' / 'results.md').read_text()


def test_what_fails_is_told_and_the_others_go_on(
    place: Path, models: list[Model], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    vim, vmamba, seg, det = models
    weights = tmp_path / 'weights'
    weights.mkdir()
    shutil.copy(place / 'weights' / vmamba.weights.name, weights / vim.weights.name)
    whole = (place / 'weights' / vmamba.weights.name).read_bytes()
    (weights / vmamba.weights.name).write_bytes(whole[: len(whole) // 2])
    shutil.copy(place / 'weights' / seg.weights.name, weights)
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'imagenet').symlink_to(place / 'data' / 'imagenet')
    # What is there comes last and is evaluated all the same.
    good = replace(vmamba, name='good')
    shutil.copy(place / 'weights' / vmamba.weights.name, weights / 'good.pth')

    options = ['--weights', weights, '--data', data, '--out', tmp_path / 'out']
    assert main(arguments(place, *options), [*models, good]) == 1
    said = capsys.readouterr().out
    for part in (
        '[5/5] good: top-1',
        f'1 evaluated, 4 failed: {vim.name}, {vmamba.name}, {seg.name}, {det.name}',
        f'ADE20K is not in {data}: expected {data}/ade/ADEChallengeData2016/images/validation',
        f'{det.weights.name} is missing: download it from example.org/small',
    ):
        assert part in said
    failures = state(tmp_path / 'out')['failures']
    assert 'holds VMamba, the model is Vim' in failures[vim.name]['message']
    assert 'truncated, damaged or no checkpoint' in failures[vmamba.name]['message']
    assert 'log.txt' in failures[vim.name]['message']
    assert all('\n' not in failure['message'] for failure in failures.values())
    for name in failures:
        assert f'- {name}: ' in (tmp_path / 'out' / 'results.md').read_text()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--models', 'vim_smal_imagenet'], "no model fits 'vim_smal_imagenet'; nearest: vim_small_imagenet"),
        (['--task', 'det', '--models', 'vim_*'], 'no model of the task det fits'),
        (['--tta', '--task', 'imagenet'], 'no numbers with test-time augmentation were published'),
    ],
)
def test_nothing_to_do(place: Path, models: list[Model], options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(arguments(place, *options), models)


def test_one_at_a_time(place: Path, models: list[Model], tmp_path: Path) -> None:
    from mmvim.zoo.evaluate import _alone

    with _alone(tmp_path), pytest.raises(RuntimeError, match='another evaluation writes into'):
        main(arguments(place, '--out', tmp_path), models)


def test_damaged_state(place: Path, models: list[Model], tmp_path: Path) -> None:
    (tmp_path / 'state.json').write_text('{')
    with pytest.raises(ValueError, match=r'state\.json is damaged .* delete it'):
        main(arguments(place, '--out', tmp_path), models)
