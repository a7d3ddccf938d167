"""Models of configs without weights."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmvim.models.build import build_untrained

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize('whole', [True, False])
def test_no_file_is_read_and_the_config_stays(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(CONFIGS / 'vim' / 'upernet_vim_t_ade20k.py')
    before = cfg.dump()
    model = build_untrained(cfg.model if whole else cfg.model.backbone, cfg.default_scope)
    assert not model.training
    assert not [part for part in model.modules() if isinstance(part, torch.nn.SyncBatchNorm)]
    model.init_weights()  # would ask for the file of the backbone
    assert cfg.dump() == before
