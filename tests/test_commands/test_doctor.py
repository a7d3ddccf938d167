"""The doctor tells what is there, what is missing and what to type, whatever is broken."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.commands import doctor
from mmvim.preflight import packages, toolchain
from mmvim.preflight.data import places
from mmvim.preflight.finding import Finding, show

REPOSITORY = Path(__file__).parents[2]


def findings_of(examine: Callable[[], Iterable[Finding]]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine()}


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules look as if they were not installed."""
    for module in (packages, toolchain):
        find = module.find_spec
        monkeypatch.setattr(module, 'find_spec', lambda name, find=find: None if name in modules else find(name))


def test_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / next(iter(OFFICIAL_WEIGHTS))).write_bytes(b'0')
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY)}
    command = [sys.executable, '-m', 'mmvim.doctor']
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ('torch', 'tier 1', 'mmcv ops', 'scan: cpu', 'C++ compiler', next(iter(OFFICIAL_WEIGHTS))):
        assert text in result.stdout
    assert (
        'ADE20K: put or link the data set into data/ade/ADEChallengeData2016; a miniature one is drawn by: '
        in result.stdout
    )


def test_script_when_the_package_does_not_import(tmp_path: Path) -> None:
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text('raise ImportError("libX.so: cannot open shared object file")')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, str(REPOSITORY / 'mmvim' / 'doctor.py')]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'libX.so' in result.stdout
    assert 'Traceback' not in result.stderr
    assert 'COCO 2017' in result.stdout  # the questions after the broken one were asked
    assert 'official files are not in weights/' in result.stdout


def test_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'torch')
    line = findings_of(toolchain.examine_torch)['torch']
    assert not line.ok and line.needed
    assert 'pip install torch' in line.remedy


@pytest.mark.parametrize(('module', 'needed', 'extra'), [('mmcv', True, '[onedl]'), ('mmdet', False, '[det]')])
def test_package_is_missing(monkeypatch: pytest.MonkeyPatch, module: str, needed: bool, extra: str) -> None:
    hide(monkeypatch, module)
    line = findings_of(packages.examine_stack)[module]
    assert (line.ok, line.needed) == (False, needed)
    assert extra in line.remedy


def test_neither_task_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'mmseg', 'mmdet')
    line = findings_of(packages.examine_stack)['tasks']
    assert not line.ok and line.needed


@pytest.mark.parametrize(
    ('owners', 'ok', 'text'),
    [
        ({'mmcv': ['mmcv', 'onedl-mmcv']}, False, 'overwrite'),
        ({'mmcv': ['mmcv'], 'mmengine': ['mmengine']}, True, 'OpenMMLab'),
    ],
)
def test_flavours(monkeypatch: pytest.MonkeyPatch, owners: dict, ok: bool, text: str) -> None:
    monkeypatch.setattr(packages, 'packages_distributions', lambda: owners)
    line = findings_of(packages.examine_stack)['mmcv']
    assert (line.ok, text in line.found) == (ok, True)


def test_mixed_flavours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, 'packages_distributions', lambda: {'mmengine': ['onedl-mmengine'], 'mmcv': ['mmcv']})
    line = findings_of(packages.examine_stack)['stack']
    assert not line.ok and line.needed


def test_mmcv_without_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, 'mmcv._ext')
    line = findings_of(packages.examine_mmcv_ops)['mmcv ops']
    assert (line.ok, line.needed) == (False, False)
    assert line.remedy.startswith('make ops, or without make: pip install --no-build-isolation')


def test_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', '/bin/false')
    line = findings_of(toolchain.examine_compiler)['C++ compiler']
    assert (line.ok, line.needed) == (False, False)


def test_miniature_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ade = tmp_path / 'data/ade/ADEChallengeData2016'
    for kind in ('images', 'annotations'):
        (ade / kind / 'training').mkdir(parents=True)
    (ade / 'images/training/1.jpg').touch()
    (tmp_path / 'data/ade/miniature.json').touch()
    monkeypatch.chdir(tmp_path)
    line = findings_of(places.examine_data)['ADE20K']
    assert line.ok
    assert line.found.startswith('1 training images') and 'miniature' in line.found


def test_a_check_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def examine_moon() -> Iterator[Finding]:
        raise RuntimeError('it is cloudy\nvery')
        yield

    monkeypatch.setattr(doctor, 'QUESTIONS', (examine_moon,))
    assert doctor.main() == 1
    output = capsys.readouterr().out
    assert 'RuntimeError: it is cloudy' in output and 'very' not in output


def test_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name in ('rich.console', 'rich.table'):
        monkeypatch.setitem(sys.modules, name, None)
    show([Finding('sun', False, 'set', 'wait'), Finding('moon', True, 'full')], 'sky')
    output = capsys.readouterr().out
    assert 'sun: wait' in output
    assert 'moon' in output and 'moon:' not in output


def test_compiled_ops_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError('undefined symbol: _ZN3c10')

    monkeypatch.setattr(packages.importlib, 'import_module', fail)
    line = findings_of(packages.examine_mmcv_ops)['mmcv ops']
    assert 'undefined symbol' in line.found and line.remedy.startswith('make ops')
