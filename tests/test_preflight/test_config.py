"""A config is read without a command line; tests/test_commands/test_bad_input.py makes every slip."""

from pathlib import Path

import pytest

from mmvim.preflight.config import load_config

UPERNET = Path(__file__).resolve().parents[2] / 'configs' / 'vim' / 'upernet_vim_s_ade20k.py'


def test_as_it_stands() -> None:
    cfg = load_config(UPERNET)
    assert (cfg.work_dir, cfg.launcher) == ('work_dirs/upernet_vim_s_ade20k', 'none')
    assert cfg.model.backbone.type == 'mmvim.Vim'


def test_with_what_a_command_line_changes() -> None:
    cfg = load_config(str(UPERNET), {'train_cfg.max_iters': 3}, work_dir='mine', launcher='pytorch')
    assert (cfg.train_cfg.max_iters, cfg.work_dir, cfg.launcher) == (3, 'mine', 'pytorch')


def test_a_slip_is_an_error_of_value() -> None:
    with pytest.raises(ValueError, match=r'did you mean train_cfg\.max_iters\?'):
        load_config(UPERNET, {'trian_cfg.max_iters': 3})
