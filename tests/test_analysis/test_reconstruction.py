"""Pictures of what masked pretraining has learned, and the report of `make demo-pretrain`."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmvim.analysis.reconstruction import draw, load_simmim, read_images, reconstruct
from mmvim.errors import UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from tools.check_configs import two_iterations

pytestmark = pytest.mark.usefixtures('own_packages')
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs/demo'


@pytest.fixture(scope='module')
def config() -> Config:
    cfg = Config.fromfile(DEMO / 'simmim_vmamba_miniature.py')
    cfg.model.backbone.arch = {'embed_dims': 8, 'depths': (1, 1, 1)}
    return cfg


@pytest.fixture(scope='module')
def checkpoint(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that predict the mean colour everywhere."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmvim'):
        model = MODELS.build(config.model)
    torch.nn.init.zeros_(model.decoder.weight)
    torch.nn.init.zeros_(model.decoder.bias)
    path = tmp_path_factory.mktemp('weights') / 'mean.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def test_hidden_pixels_are_predicted_and_the_others_kept(config: Config, checkpoint: Path) -> None:
    model = load_simmim(config, checkpoint)
    image = np.random.default_rng(0).integers(0, 100, (70, 97, 3), dtype=np.uint8)
    (found,) = reconstruct(model, [image])
    whole, seen, reconstructed = found
    hidden = (seen == 128).all(2)
    assert whole.shape == (70, 97, 3) and (whole == image[..., ::-1]).all()
    squares = np.count_nonzero(hidden[::16, ::16])
    assert squares == int(np.ceil(0.6 * 5 * 7))
    assert (reconstructed[~hidden] == whole[~hidden]).all()
    assert (reconstructed[hidden] == np.round(config.model.data_preprocessor.mean)).all()
    again = reconstruct(model, [image])[0]
    assert all((a == b).all() for a, b in zip(found, again, strict=True))


def test_what_cannot_be_reconstructed(config: Config, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(UserValueError, match='text.png is no image'):
        read_images([tmp_path], 3)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserValueError, match='no images'):
        read_images([tmp_path / 'empty'], 3)
    with pytest.raises(UserValueError, match='reconstructs nothing'):
        other = Config({'model': {'type': 'mmvim.ImageClassifier', 'backbone': config.model.backbone,
                                  'head': {'type': 'mmvim.LinearHead', 'in_channels': 32}}})  # fmt: skip
        load_simmim(other, checkpoint)
    with pytest.raises(UserValueError, match='mask patch'):
        reconstruct(load_simmim(config, checkpoint), [np.zeros((8, 8, 3), np.uint8)])


def test_the_command(config: Config, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.dump(tmp_path / 'small.py')
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/wide.png'), np.full((40, 64, 3), 200, np.uint8))
    words = [tmp_path / 'small.py', checkpoint, tmp_path / 'images', '--size', '32', '--out', tmp_path / 'out']
    monkeypatch.setattr(sys, 'argv', ['reconstruction.py', *map(str, words)])
    runpy.run_path(str(ROOT / 'tools/analysis/reconstruction.py'), run_name='__main__')
    picture = cv2.imread(str(tmp_path / 'out/reconstruction.png'))
    assert picture.shape[0] > 200 and picture.std() > 10


def test_pictures_have_a_row_for_each_image() -> None:
    three = tuple(np.zeros((16, 16, 3), np.uint8) for _ in range(3))
    figure = draw([three, three])
    assert len(figure.axes) == 6 and figure.axes[2].get_title() == 'reconstruction'


def test_the_demo_trains_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations of its three configs, then table and picture of models that were not trained."""
    monkeypatch.chdir(tmp_path)
    ensure_miniature('unlabelled', 'data/unlabelled_miniature', train=34, val=2, progress=False)
    ensure_miniature('ade20k', 'data/ade_miniature_100', train=8, val=2, progress=False)
    for name in ('simmim_vmamba_miniature', 'upernet_vmamba_miniature_simmim', 'upernet_vmamba_miniature'):
        cfg = Config.fromfile(DEMO / f'{name}.py')
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            cfg.model.backbone.init_cfg = None
            model = MODELS.build(cfg.model)
        folder = Path('work_dirs', name)
        folder.mkdir(parents=True)
        torch.save({'state_dict': model.state_dict()}, folder / 'epoch_10.pth')
        (folder / 'last_checkpoint').write_text(str(folder / 'epoch_10.pth'))
        assert two_iterations(DEMO / f'{name}.py', tmp_path / 'data') > 0
    monkeypatch.setattr(sys, 'argv', ['demo_pretrain_report.py'])
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    runpy.run_path(str(ROOT / 'tools/demo_pretrain_report.py'), run_name='__main__')
    found = json.loads(Path('work_dirs/demo_pretrain/report.json').read_text())
    assert set(found) == {'upernet_vmamba_miniature_simmim', 'upernet_vmamba_miniature'}
    assert all(0 <= value < 100 for value in found.values())
    assert Path('work_dirs/demo_pretrain/reconstruction.png').is_file()
