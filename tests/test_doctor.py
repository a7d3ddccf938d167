"""The doctor tells what is there, what is missing and what to type, whatever is broken."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvim import doctor
from mmvim.catalogue import OFFICIAL_WEIGHTS

REPOSITORY = Path(__file__).parents[1]


def lines_of(check) -> dict[str, doctor.Line]:
    return {line.subject: line for line in check()}


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules look as if they were not installed."""
    find = doctor.find_spec
    monkeypatch.setattr(doctor, 'find_spec', lambda name: None if name in modules else find(name))


def test_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / next(iter(OFFICIAL_WEIGHTS))).write_bytes(b'0')
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY)}
    command = [sys.executable, '-m', 'mmvim.doctor']
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ('torch', 'tier 1', 'mmcv ops', 'scan: cpu', 'C++ compiler', next(iter(OFFICIAL_WEIGHTS))):
        assert text in result.stdout
    assert 'ADE20K: put the data set into data/ade/ADEChallengeData2016' in result.stdout


def test_script_when_the_package_does_not_import(tmp_path: Path) -> None:
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text('raise ImportError("libX.so: cannot open shared object file")')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, str(REPOSITORY / 'mmvim' / 'doctor.py')]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'libX.so' in result.stdout
    assert 'Traceback' not in result.stderr
    assert 'COCO 2017' in result.stdout  # the checks after the broken one were made


def test_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'torch')
    line = lines_of(doctor.check_torch)['torch']
    assert line.status == doctor.BAD
    assert 'pip install torch' in line.remedy


@pytest.mark.parametrize(
    ('module', 'status', 'extra'), [('mmcv', doctor.BAD, '[onedl]'), ('mmdet', doctor.OPTIONAL, '[det]')]
)
def test_package_is_missing(monkeypatch: pytest.MonkeyPatch, module: str, status: str, extra: str) -> None:
    hide(monkeypatch, module)
    line = lines_of(doctor.check_stack)[module]
    assert line.status == status
    assert extra in line.remedy


def test_neither_task_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'mmseg', 'mmdet')
    assert lines_of(doctor.check_stack)['tasks'].status == doctor.BAD


@pytest.mark.parametrize(
    ('owners', 'status', 'text'),
    [
        ({'mmcv': ['mmcv', 'onedl-mmcv']}, doctor.BAD, 'overwrite'),
        ({'mmcv': ['mmcv'], 'mmengine': ['mmengine']}, doctor.GOOD, 'OpenMMLab'),
    ],
)
def test_flavours(monkeypatch: pytest.MonkeyPatch, owners: dict, status: str, text: str) -> None:
    monkeypatch.setattr(doctor, 'packages_distributions', lambda: owners)
    line = lines_of(doctor.check_stack)['mmcv']
    assert (line.status, text in line.found) == (status, True)


def test_mixed_flavours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, 'packages_distributions', lambda: {'mmengine': ['onedl-mmengine'], 'mmcv': ['mmcv']})
    assert lines_of(doctor.check_stack)['stack'].status == doctor.BAD


def test_mmcv_without_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'mmcv._ext')
    assert lines_of(doctor.check_mmcv_ops)['mmcv ops'].remedy == 'make ops'


def test_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', '/bin/false')
    assert lines_of(doctor.check_compiler)['C++ compiler'].status == doctor.OPTIONAL


def test_miniature_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ade = tmp_path / 'data/ade/ADEChallengeData2016'
    for kind in ('images', 'annotations'):
        (ade / kind / 'training').mkdir(parents=True)
    (ade / 'images/training/1.jpg').touch()
    (tmp_path / 'data/ade/miniature.json').touch()
    monkeypatch.chdir(tmp_path)
    line = lines_of(doctor.check_data)['ADE20K']
    assert line.status == doctor.GOOD
    assert line.found.startswith('1 training images') and 'miniature' in line.found


def test_a_check_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def check_moon() -> Iterator[doctor.Line]:
        raise RuntimeError('it is cloudy\nvery')
        yield

    monkeypatch.setattr(doctor, 'CHECKS', (check_moon,))
    assert doctor.main() == 1
    output = capsys.readouterr().out
    assert 'RuntimeError: it is cloudy' in output and 'very' not in output


def test_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name in ('rich.console', 'rich.table'):
        monkeypatch.setitem(sys.modules, name, None)
    doctor.show([doctor.Line('sun', doctor.BAD, 'set', 'wait'), doctor.Line('moon', doctor.GOOD, 'full')])
    output = capsys.readouterr().out
    assert 'sun: wait' in output
    assert 'moon' in output and 'moon:' not in output


def test_compiled_ops_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError('undefined symbol: _ZN3c10')

    monkeypatch.setattr(doctor.importlib, 'import_module', fail)
    line = lines_of(doctor.check_mmcv_ops)['mmcv ops']
    assert 'undefined symbol' in line.found and line.remedy == 'make ops'
