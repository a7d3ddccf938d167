"""The check at the start of training and testing: what stops, what goes on, and on which files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import METRICS
from PIL import Image

from mmvim.commands.train import train
from mmvim.errors import UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight.data.parts import checkers_of
from mmvim.preflight.data.start import check_at_start
from mmvim.preflight.data.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs' / 'vim' / 'mask_rcnn_vim_t_coco.py'


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config for a drawn data set."""
    monkeypatch.chdir(tmp_path)
    ensure_miniature('coco', tmp_path / 'data/coco', train=3, val=2, size=(64, 64), progress=False)
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = 'work'
    return cfg


def change(stage: str, edit) -> None:
    path = Path(f'data/coco/annotations/instances_{stage}2017.json')
    data = json.loads(path.read_text())
    for number, annotation in enumerate(data['annotations']):
        edit(number, annotation)
    path.write_text(json.dumps(data))


def test_a_miniature_gives_no_finding(cfg: Config, capsys: pytest.CaptureFixture) -> None:
    before = cfg.copy()
    check_at_start(cfg, 'train', 'val')
    check_at_start(cfg, 'test')
    assert capsys.readouterr().out == ''
    assert cfg.pretty_text == before.pretty_text and not Path('work').exists()


def test_what_is_missing_is_filled_in(cfg: Config, capsys: pytest.CaptureFixture) -> None:
    change('val', lambda _, annotation: (annotation.pop('iscrowd'), annotation.pop('area')))
    original = json.loads(Path(cfg.val_evaluator.ann_file).read_text())
    check_at_start(cfg, 'train', 'val')
    said = capsys.readouterr().out.splitlines()
    count = len(original['annotations'])
    assert len(said) == 3 and f'note: {count} annotations without iscrowd' in said[0]
    assert f'note: {count} annotations without an area' in said[1]
    copy = cfg.val_dataloader.dataset.ann_file
    assert Path(copy).is_absolute() and Path(copy).parent == Path('work/annotations').resolve()
    assert cfg.val_evaluator.ann_file == copy and str(Path('work/annotations', Path(copy).name)) in said[2]
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/instances_train2017.json'
    mended = json.loads(Path(copy).read_text())
    assert len(mended['annotations']) == count
    assert all(entry['iscrowd'] == 0 and entry['area'] > 0 for entry in mended['annotations'])
    # Those who come later find the same.
    stamp = Path(copy).stat().st_mtime_ns
    again = Config.fromfile(CONFIG)
    again.work_dir = 'work'
    check_at_start(again, 'val')
    assert again.val_dataloader.dataset.ann_file == copy and Path(copy).stat().st_mtime_ns == stamp


def test_what_cannot_be_used_is_left_out(cfg: Config, capsys: pytest.CaptureFixture) -> None:
    change('train', lambda number, annotation: number or annotation.update(segmentation=[[1, 1, 9, 9]]))
    check_at_start(cfg, 'train', 'val')
    assert 'left out: 1 masks of polygons with fewer' in capsys.readouterr().out
    before, after = (
        json.loads(Path(cfg.train_dataloader.dataset.data_root, name).read_text())['annotations']
        for name in ('annotations/instances_train2017.json', cfg.train_dataloader.dataset.ann_file)
    )
    assert after == before[1:]


def test_a_data_set_that_is_there_twice_is_mended_twice(cfg: Config) -> None:
    change('train', lambda _, annotation: annotation.pop('iscrowd'))
    inner = cfg.train_dataloader.dataset.to_dict()
    cfg.train_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': [inner, inner]}
    check_at_start(cfg, 'train')
    first, second = (entry.ann_file for entry in cfg.train_dataloader.dataset.datasets)
    assert first == second and Path(first).parent == Path('work/annotations').resolve()


def test_only_the_first_process_speaks(
    cfg: Config, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    change('train', lambda _, annotation: annotation.pop('iscrowd'))
    monkeypatch.setenv('RANK', '1')
    check_at_start(cfg, 'train')
    assert capsys.readouterr().out == ''
    assert Path(cfg.train_dataloader.dataset.ann_file).is_file()


def test_what_cannot_train_stops(cfg: Config, capsys: pytest.CaptureFixture) -> None:
    change('train', lambda _, annotation: annotation.update(category_id=str(annotation['category_id'])))
    with pytest.raises(UserValueError, match="category_id as text .*category_id '.*write numbers.*--no-data-check"):
        check_at_start(cfg, 'train', 'val')
    assert 'error' in capsys.readouterr().err and not Path('work').exists()


def test_images_of_validation_that_are_trained_on(cfg: Config, capsys: pytest.CaptureFixture) -> None:
    cfg.val_dataloader.dataset.update(
        ann_file=cfg.train_dataloader.dataset.ann_file, data_prefix=cfg.train_dataloader.dataset.data_prefix
    )
    cfg.val_evaluator.ann_file = 'data/coco/annotations/instances_train2017.json'
    check_at_start(cfg, 'train', 'val')
    assert 'warning: 3 images of validation that are trained on' in capsys.readouterr().out


def test_no_image_is_opened_when_time_is_up(cfg: Config) -> None:
    for path in Path('data/coco/train2017').iterdir():
        path.write_text('no image')
    check_at_start(cfg, 'train', seconds=-1)
    with pytest.raises(UserValueError, match='cannot be decoded'):
        check_at_start(cfg, 'train')


def test_everything_loads_from_a_mended_file(cfg: Config) -> None:
    """In training and in validation, where each of these used to break one of the two."""
    faulty = [[], [[1, 1, 9, 9]], [[1, 1, 9, 9, 3]], 'x', [[1, 1, 9, 1, 9, 9], [1, 1, 9, 9]]]

    def spoil(number: int, annotation: dict) -> None:
        annotation.pop('iscrowd')
        annotation.pop('area')
        if number < len(faulty):
            annotation['segmentation'] = faulty[number]

    for stage in ('train', 'val'):
        change(stage, spoil)
    check_at_start(cfg, 'train', 'val')
    for stage in ('train', 'val'):
        (checker,) = checkers_of(cfg, [stage], Tally())
        dataset = checker.dataset
        dataset.full_init()
        assert isinstance(dataset, CocoDataset) and len(dataset)
        assert all('masks' in dataset[number]['data_samples'].gt_instances for number in range(len(dataset)))
    metric = METRICS.build(cfg.val_evaluator.to_dict())
    for annotation in metric._coco_api.dataset['annotations']:
        metric._coco_api.annToRLE(annotation)


def test_the_check_can_be_left_out(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmvim.commands.train.build_runner', lambda cfg: pytest.fail('a model is built'))
    change('train', lambda _, annotation: annotation.update(category_id='x'))
    cfg.model.backbone.init_cfg = None
    cfg.dump('mine.py')
    with pytest.raises(UserValueError, match='The data cannot be used'):
        train(['mine.py'])
    with pytest.raises(pytest.fail.Exception, match='a model is built'):
        train(['mine.py', '--no-data-check'])


def test_the_command(cfg: Config) -> None:
    """Findings, statistics, pictures, and an exit code."""
    cfg.dump('mine.py')
    good = check_data('mine.py', '--stage', 'train', '--out', 'drawn')
    assert good.returncode == 0, good.stderr
    assert 'nothing to complain about' in good.stdout and 'boxes per image' in good.stdout
    assert 'in pixels of stride 16' in good.stdout and 'person' in good.stdout
    pictures = sorted(path.name for path in Path('drawn/train').iterdir())
    names = sorted(path.stem for path in Path('data/coco/train2017').iterdir())
    assert pictures == [*(f'{name}.png' for name in names), 'classes.png']
    with Image.open(f'drawn/train/{names[0]}.png') as picture:
        drawn = np.asarray(picture)
    assert drawn.shape[:2] == (576, 576) and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
    change('train', lambda number, annotation: number or annotation.update(bbox=[1, 1, 0, 3]))
    bad = check_data('mine.py', '--stage', 'train', 'val', '--images', '1')
    assert bad.returncode == 1 and 'left out       1  boxes of no width or no height' in bad.stdout
    assert 'annotation 1: bbox [1.0, 1.0, 0.0, 3.0]' in bad.stdout
    nothing = check_data('mine.py', '--images', '0')
    assert nothing.returncode == 1 and nothing.stderr.strip().splitlines()[-1].startswith('error: --images 0: give')


def check_data(*args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'check_data.py', *args]
    return subprocess.run(command, capture_output=True, text=True)
