"""The table of an evaluation."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmvim.catalogue import MODELS, find
from mmvim.zoo.report import write_report
from mmvim.zoo.state import State
from mmvim.zoo.table import Job, all_jobs, measured, rows

SEG = find(MODELS, 'upernet_vmamba_t_ade20k')
DET = find(MODELS, 'mask_rcnn_vmamba_t_coco')


def result(**metrics: float) -> dict:
    return {
        'metrics': metrics,
        'images': 2000,
        'images_per_second': 12.345678,
        'peak_memory': 3 * 2**20,
        'batch_size': 1,
        'processes': 1,
        'weights': 'weights/a.pth',
        'machine': {'card': 'a card', 'scans': 'scans: some kernels', 'date': '2020-01-01'},
        'versions': {'torch': '2.0'},
    }


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / 'state.json')


@pytest.mark.parametrize(
    ('value', 'marked'), [(47.9, False), (48.1, False), (47.7, False), (48.11, True), (47.69, True)]
)
def test_marks(state: State, value: float, marked: bool) -> None:
    state.finish(SEG.name, {'weights': 'abc'}, result(mIoU=value, aAcc=80.0))
    (row,) = rows([Job(SEG)], state)
    assert (row['published'], row['measured'], row['marked']) == (47.9, value, marked)
    assert row['difference'] == pytest.approx(value - 47.9)
    assert row['source'] == 'README of MzeroMiko/VMamba'


def test_shares_become_percent(state: State) -> None:
    state.finish(DET.name, {'weights': 'abc'}, result(**{'coco/bbox_mAP': 0.473, 'coco/segm_mAP': 0.427, 'other': 1}))
    assert measured(Job(DET), state) == {'box AP': 47.3, 'mask AP': 42.7}
    assert not any(row['marked'] for row in rows([Job(DET)], state))


def test_augmentation_is_a_job_of_its_own(state: State) -> None:
    assert [job.name for job in all_jobs([SEG, DET]) if not job.amp] == [SEG.name, f'{SEG.name}+tta', DET.name]
    assert Job(SEG).metrics == ['mIoU']
    assert Job(SEG, tta=True).metrics == ['mIoU (ms+flip)']
    state.finish(f'{SEG.name}+tta', {'weights': 'abc'}, result(mIoU=48.0))
    (row,) = rows(all_jobs([SEG]), state)
    assert (row['metric'], row['published'], row['marked']) == ('mIoU (ms+flip)', 48.8, True)


def test_mixed_precision_is_a_job_of_its_own(state: State) -> None:
    names = [job.name for job in all_jobs([SEG])]
    assert names == [f'{SEG.name}{tta}{amp}' for tta in ('', '+tta') for amp in ('', '+amp')]
    state.finish(SEG.name, {'weights': 'abc'}, result(mIoU=47.9))
    state.finish(f'{SEG.name}+amp', {'weights': 'abc', 'amp': 'bf16'}, result(mIoU=47.5))
    found = [(row['precision'], row['measured'], row['marked']) for row in rows(all_jobs([SEG]), state)]
    assert found == [('fp32', 47.9, False), ('bf16', 47.5, True)]


def test_without_published_numbers(state: State, tmp_path: Path) -> None:
    model = replace(SEG, published=())
    state.finish(model.name, {'weights': 'abc'}, result(mIoU=40.0))
    (row,) = rows([Job(model)], state)
    assert (row['published'], row['difference'], row['marked']) == (None, None, False)
    write_report([Job(model)], state, tmp_path)
    assert '| mIoU | fp32 | - | 40.00 | - |' in (tmp_path / 'results.md').read_text()


def test_files(state: State, tmp_path: Path) -> None:
    state.finish(SEG.name, {'weights': 'abc'}, result(mIoU=47.0))
    state.fail(DET.name, 'no, "really"')
    jobs = all_jobs([SEG, DET])
    files = write_report(jobs, state, tmp_path)
    assert [path.name for path in files] == ['results.md', 'results.csv', 'results.json']
    text, table, content = (path.read_text() for path in files)
    row = f'| {SEG.name} | mIoU | fp32 | 47.9 (README of MzeroMiko/VMamba) | 47.00 | -0.90 **!** | 12.3 | 3 MiB | 1 |'
    assert row in text
    assert 'card a card, scans some kernels, torch 2.0' in text
    assert f'## Failed\n\n- {DET.name}: no, "really"' in text
    first, second = csv.DictReader(io.StringIO(table))
    assert (first['model'], first['measured'], first['marked'], first['failure']) == (SEG.name, '47.0', 'True', '')
    assert (second['model'], second['failure']) == (DET.name, 'no, "really"')
    content = json.loads(content)
    assert content['results'] == rows(jobs, state)
    assert content['failures'] == {DET.name: 'no, "really"'}


def test_state_survives(state: State) -> None:
    request = {'weights': 'abc', 'config': 'def'}
    state.finish('a', request, {'metrics': {}})
    state.fail('b', 'why')
    again = State(state.path)
    assert (
        again.has('a', request) and not again.has('a', {**request, 'weights': 'other'}) and not again.has('b', request)
    )
    assert again.failures['b']['message'] == 'why'
    again.finish('b', request, {'metrics': {}})
    again.fail('a', 'changed')
    third = State(state.path)
    assert set(third.results) == {'b'} and set(third.failures) == {'a'}
