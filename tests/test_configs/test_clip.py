"""The configs of images with captions: what they say, two iterations of each, their tests, the data check."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmvim.commands.test import test as run_test
from mmvim.errors import UserFileNotFoundError, UserModuleNotFoundError, UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight import packages
from mmvim.preflight.data.checker import no_progress
from mmvim.preflight.data.parts import checkers_of
from mmvim.preflight.data.places import check_data
from mmvim.preflight.data.start import check_at_start
from mmvim.preflight.data.tally import Tally
from mmvim.preflight.finding import demand
from tools.check_configs import two_iterations

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [path for path in sorted((ROOT / 'configs/pretrain').glob('clip_*.py')) if '_imagenet' not in path.stem]
DEMO = ROOT / 'configs/demo/clip_vmamba_miniature.py'
SIZES = {'train': 8, 'val': 4, 'progress': False}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    ensure_miniature('captions', folder / 'captions', **SIZES)
    return folder


@pytest.fixture
def copied(data: Path, tmp_path: Path) -> Path:
    """A data set that the test may spoil."""
    return Path(shutil.copytree(data / 'captions', tmp_path / 'captions'))


def config(root: Path, path: Path = DEMO) -> Config:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
    cfg.train_dataloader.batch_size = 4
    cfg.work_dir = str(root.parent / 'run')
    return cfg


def test_there_are_configs() -> None:
    assert {path.stem for path in CONFIGS} >= {'clip_vim_s_32e_224', 'clip_vmamba_t_32e_224'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_fields(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    assert cfg.train_dataloader.drop_last  # processes would wait for each other's missing pairs
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs == 32
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert 'mmvim.DrawCaption' in steps and 'RandomFlip' not in steps  # captions tell left from right
    zero_shot = Config.fromfile(path.with_name(path.name.replace('32e_224', 'imagenet')))
    assert zero_shot.model.backbone == cfg.model.backbone and zero_shot.model.text == cfg.model.text
    assert zero_shot.test_evaluator.type == 'mmvim.Accuracy'


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations(path: Path, data: Path) -> None:
    loss = two_iterations(path, data)
    assert math.isfinite(loss) and 0 < loss < 20


def test_retrieval_and_classes_by_the_command(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ensure_miniature('imagenet', tmp_path / 'imagenet', train=5, val=10, size=(64, 64), progress=False)
    cfg = config(data / 'captions')
    init_default_scope(cfg.default_scope)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {}}, tmp_path / 'run.pth')
    roots = {
        DEMO: data / 'captions',
        DEMO.with_name('clip_vmamba_miniature_imagenet.py'): tmp_path / 'imagenet/imagenet',
    }
    found = {}
    for path, root in roots.items():
        work_dir = tmp_path / path.stem
        options = f'test_dataloader.dataset.data_root={root}'
        run_test([str(path), str(tmp_path / 'run.pth'), '--work-dir', str(work_dir), '--cfg-options', options])
        (file,) = (path for path in work_dir.glob('*/*.json'))
        found |= json.loads(file.read_text())
    assert found['retrieval/image_to_text_R@1'] in (0, 25, 50, 75, 100)
    assert found['retrieval/text_to_image_R@5'] == 100  # of 4 images
    assert found['accuracy/top1'] in range(0, 101, 10)


# ------------------------------------------------------------------------------------------ before the start


def test_what_is_there_is_used(data: Path, capfd: pytest.CaptureFixture) -> None:
    cfg = config(data / 'captions')
    demand(packages.check_packages(cfg), UserModuleNotFoundError)
    demand(check_data(cfg, 'train', 'val'), UserFileNotFoundError)
    check_at_start(cfg, 'train', 'val')
    assert capfd.readouterr() == ('', '')
    checker = next(checkers_of(cfg, ['train'], Tally()))
    tally, statistics = checker.full(None, no_progress)
    assert not tally.fails_check
    assert statistics.facts['images'] == '8' and statistics.facts['captions'] == '40'
    assert statistics.facts['captions of an image'] == '5 to 5, median 5'


def test_a_missing_file_of_captions(copied: Path) -> None:
    (copied / 'annotations/captions_train2017.json').unlink()
    with pytest.raises(
        UserFileNotFoundError, match=r'has no annotations/captions_train2017\.json; put .*captions --out'
    ):
        demand(check_data(config(copied), 'train'), UserFileNotFoundError)


def test_a_missing_image(copied: Path) -> None:
    (copied / 'train2017/000000000003.jpg').unlink()
    with pytest.raises(UserValueError, match=r'images that are missing: .*000000000003\.jpg; put them there'):
        check_at_start(config(copied), 'train')


def spoil(copied: Path, caption: str) -> None:
    """Write another third caption of the training images."""
    file = copied / 'annotations/captions_train2017.json'
    content = json.loads(file.read_text())
    content['annotations'][2]['caption'] = caption
    file.write_text(json.dumps(content))


def test_an_empty_caption(copied: Path) -> None:
    spoil(copied, '  ')
    with pytest.raises(UserValueError, match=r'captions_train2017\.json, annotation 3: the caption of .* is empty'):
        check_at_start(config(copied), 'train')


def test_a_long_caption_is_said_once(copied: Path, capfd: pytest.CaptureFixture) -> None:
    spoil(copied, 'a boat and ' * 40)
    check_at_start(config(copied), 'train')
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith('data, note: 1 captions of more than 77 tokens (the first: ')


def test_fewer_images_than_a_batch(data: Path) -> None:
    cfg = config(data / 'captions')
    cfg.train_dataloader.batch_size = 9
    with pytest.raises(UserValueError, match=r'8 training images are fewer than train_dataloader\.batch_size=9'):
        check_at_start(cfg, 'train')
    cfg.train_dataloader.drop_last = False
    check_at_start(cfg, 'train')


def test_a_missing_tokenizer(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = packages.find_spec
    monkeypatch.setattr(packages, 'find_spec', lambda name: None if 'tokenizer' in name else there(name))
    with pytest.raises(UserModuleNotFoundError, match=r"not installed; .*pip install .* -e '\.\[pretrain\]'"):
        demand(packages.check_packages(config(data / 'captions')), UserModuleNotFoundError)
