"""Files of weights that a run starts from."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmvim.preflight.weights import check_weights, find_checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_that_is_there_and_one_that_is_not(folder: Path) -> None:
    (folder / 'a.pth').touch()
    assert find_checkpoint('a.pth').ok
    assert not find_checkpoint('b.pth').ok
    assert 'no checkpoint at b.pth' in find_checkpoint('b.pth').sentence
    assert find_checkpoint('https://example.org/c.pth').ok


@pytest.mark.parametrize('as_list', [True, False])
def test_init_cfg_is_one_or_several(folder: Path, as_list: bool) -> None:
    init_cfg = {'type': 'Pretrained', 'checkpoint': 'b.pth'}
    backbone = {'init_cfg': [init_cfg] if as_list else init_cfg}
    cfg = Config({'model': {'backbone': backbone}, 'load_from': 'a.pth'})
    assert [finding.ok for finding in check_weights(cfg)] == [False, False]
