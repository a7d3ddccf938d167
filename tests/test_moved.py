"""What earlier releases had elsewhere is found, with one line that says where."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmvim.catalogue import MODELS
from mmvim.inference import choose
from mmvim.moved import moved_config

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'


@pytest.mark.parametrize('model', [model for model in MODELS if model.task == 'imagenet'], ids=lambda model: model.name)
def test_classifiers(model, capfd: pytest.CaptureFixture) -> None:
    before = CONFIGS / 'imagenet' / f'{model.name}.py'
    assert moved_config(before) == ROOT / model.config
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f'{before} is {ROOT / model.config} now; the next release will not find it by the old name'


def test_what_has_not_moved(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    mine = tmp_path / 'configs' / 'imagenet' / 'vim_t_imagenet.py'
    mine.parent.mkdir(parents=True)
    mine.touch()
    for path in (mine, CONFIGS / 'vim/vim_t_imagenet.py', CONFIGS / 'imagenet/no_such.py', CONFIGS / 'vim'):
        assert moved_config(path) == path
    assert capfd.readouterr().err == ''


def test_tools_find_it(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    cfg, weights = choose('configs/imagenet/vim_t_imagenet.py')
    assert Path(cfg.filename).resolve() == CONFIGS / 'vim/vim_t_imagenet.py'
    assert weights.endswith('vim_t_midclstok_76p1acc.pth')
    assert 'configs/imagenet/vim_t_imagenet.py is configs/vim/vim_t_imagenet.py now' in capfd.readouterr().err


def test_benchmarks() -> None:
    old = ROOT / 'tools/benchmark'
    names = {path.name for path in old.iterdir() if path.is_symlink()}
    assert names == {'backbone.py', 'large_image.py', 'pays.py', 'scan.py', 'vmamba.py'}
    assert {(old / name).resolve() for name in names} == {old / 'moved.py'}
    assert all((ROOT / 'benchmarks' / name).is_file() for name in names)
    result = subprocess.run([sys.executable, 'tools/benchmark/scan.py', '-h'], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.splitlines()[0] == 'tools/benchmark/scan.py is benchmarks/scan.py now'
    assert result.stdout.startswith('usage: scan.py'), result.stderr
