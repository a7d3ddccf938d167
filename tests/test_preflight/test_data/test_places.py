"""Data sets are found or missed alike by training and by the doctor."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmvim.miniature.data_sets import KINDS
from mmvim.preflight.data.places import STANDARDS, check_data, examine_data

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
MISSED = {
    'vim/upernet_vim_s_ade20k.py': 'ADE20K',
    'vim/mask_rcnn_vim_t_coco.py': 'COCO 2017',
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('config', MISSED)
def test_both_tell_how_a_miniature_is_drawn(config: str) -> None:
    cfg = Config.fromfile(CONFIGS / config)
    missed = next(finding for finding in check_data(cfg, 'train'))
    told = {finding.subject: finding for finding in examine_data()}[MISSED[config]]
    assert not missed.ok and not told.ok and missed.needed and not told.needed
    command = told.remedy.partition('python tools/make_miniature.py ')[2]
    assert command and missed.remedy.endswith(command)


@pytest.mark.parametrize('config', MISSED)
def test_what_is_there_is_found_by_both(config: str) -> None:
    cfg = Config.fromfile(CONFIGS / config)
    standard = {standard.title: standard for standard in STANDARDS.values()}[MISSED[config]]
    for name in (standard.images, standard.annotations):
        Path(standard.root, name).mkdir(parents=True)
    assert all(finding.ok for finding in check_data(cfg, 'train'))
    assert next(finding for finding in examine_data() if finding.subject == standard.title).ok


def test_kinds_can_be_drawn() -> None:
    assert {standard.kind for standard in STANDARDS.values()} <= set(KINDS)
