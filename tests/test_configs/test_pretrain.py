"""The configs of pretraining: what they say, and two iterations of each; the data check before them."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmvim.commands import run_tool
from mmvim.errors import UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight.data.start import check_at_start
from tools.check_configs import two_iterations

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / 'configs/pretrain').glob('simmim_*.py'))


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    ensure_miniature('unlabelled', folder / 'unlabelled', train=8, val=4, progress=False)
    return folder


def test_there_are_configs() -> None:
    assert {path.stem for path in CONFIGS} >= {
        f'simmim_{name}' for name in ('vim_s_100e_224', 'vmamba_t_100e_192', 'vim_s_800e_224', 'vmamba_t_800e_192')
    }


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_fields(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert (cfg.model.mask_patch_size, cfg.model.mask_ratio) == (32, 0.6)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    assert cfg.default_hooks.checkpoint.type == 'mmvim.SafeCheckpointHook'
    epochs = int(path.stem.split('_')[-2].removesuffix('e'))
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer.lr == {100: 8e-4, 800: 4e-4}[epochs]
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'mmvim.RandomResizedCrop')
    assert crop.scale == int(path.stem.rpartition('_')[2])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations(path: Path, data: Path) -> None:
    loss = two_iterations(path, data)
    assert math.isfinite(loss) and 0.1 < loss < 3


def test_a_damaged_image_among_others_is_named(tmp_path: Path) -> None:
    """Without workers; what comes out of a worker is in tests/test_commands."""
    ensure_miniature('unlabelled', tmp_path / 'images', train=3, val=1, progress=False)
    damaged = tmp_path / 'images/train/scene_00000002.jpg'
    damaged.write_bytes(damaged.read_bytes()[:100])
    cfg = config(tmp_path / 'images/train')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    with pytest.raises(
        SystemExit, match=f'^error: Data could not be loaded: .*{damaged.name}; it is damaged'
    ) as caught:
        run_tool(lambda: [dataset[index] for index in range(3)])
    assert '\n' not in str(caught.value)


def config(root: Path) -> Config:
    cfg = Config.fromfile(CONFIGS[0])
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.data_root = str(root)
    cfg.work_dir = str(root.parent / 'run')
    return cfg


def test_the_data_check_knows_the_folder(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    check_at_start(config(data / 'unlabelled' / 'train'), 'train', 'val')
    assert capfd.readouterr() == ('', '')
    (tmp_path / 'images').mkdir()
    for folder, said in (('nowhere', 'there is no folder'), ('images', 'has no images')):
        with pytest.raises(UserValueError, match=f'data sets that cannot list their files.*{said}'):
            check_at_start(config(tmp_path / folder), 'train', 'val')
    (tmp_path / 'images/deep').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / 'images/deep/b.jpg').write_text('no image')
    with pytest.raises(UserValueError, match='images that cannot be decoded'):
        check_at_start(config(tmp_path / 'images'), 'train', 'val')
