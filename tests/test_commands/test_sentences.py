"""Errors of configs and of processes that load data reach the user as one sentence."""

from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from mmvim.commands import run_tool
from mmvim.errors import UserValueError
from mmvim.preflight.config import load_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'vim' / 'mask_rcnn_vim_t_coco.py'
BASE = f'_base_ = {str(CONFIG)!r}\n'


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (BASE + 'default_scope = dict(a=1)\n', r'default_scope is a dict, where .* has a text; write a text, or add'),
        (BASE + 'train_dataloader = dict(dataset=dict(pipeline=dict(a=1)))\n', r'pipeline is a dict, .* has a list'),
        ('a = 1\nb = c + 1\n', r"mine\.py, line 2: NameError: name 'c' is not defined"),
        ('a = (1\nb = 2\n', r'mine\.py, line 1: .* never closed'),
        ("_base_ = 'nothing.py'\n", r'its _base_ .*nothing\.py does not exist'),
        (BASE + "custom_imports = dict(imports=['no_such'])\n", r'custom_imports: Failed to import no_such; install'),
        (f'_base_ = [{str(CONFIG)!r}] * 2\n', r'two of its _base_ files both have .* and \d+ more'),
        (BASE + 'x = _base_.nothing\n', r"line 2: AttributeError: .*'nothing'"),
    ],
)
def test_a_config_that_cannot_be_read(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(UserValueError, match=sentence) as caught:
        load_config(tmp_path / 'mine.py')
    assert '\n' not in str(caught.value) and caught.value.__cause__ is not None


class Missing(Dataset):
    """Two images that are not there."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> bytes:
        return Path(f'no_image_{index}.jpg').read_bytes()


def load() -> None:
    next(iter(DataLoader(Missing(), num_workers=1)))


def test_an_error_of_a_process_that_loads_data(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = r"^error: Data could not be loaded: FileNotFoundError: .*'no_image_0\.jpg'"
    with pytest.raises(SystemExit, match=sentence) as end:
        run_tool(load)
    assert '\n' not in str(end.value)
    monkeypatch.setenv('MMVIM_TRACEBACK', '1')
    with pytest.raises(FileNotFoundError, match='Original Traceback'):
        run_tool(load)


def test_other_accidents_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)
