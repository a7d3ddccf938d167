"""Images in one folder for each class: what is in them, and against training's and the classifier's."""

from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS
from PIL import Image

from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight.data.image_folders import ImageFolderChecker
from mmvim.preflight.data.tally import Severity


@pytest.fixture
def place(tmp_path) -> Path:
    """Two classes of two images, for training and validation."""
    for stage in ('train', 'val'):
        for name in ('bird', 'cat'):
            (tmp_path / stage / name).mkdir(parents=True)
            for number in range(2):
                image = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / stage / name / f'{number}.jpg')
    return tmp_path


def check(place: Path, stage: str = 'val', num_classes: int = 2) -> tuple[dict, dict]:
    def entry(part: str) -> ConfigDict:
        prefix = {'img': part}
        return ConfigDict(type='mmvim.ImageNet', data_root=str(place), data_prefix=prefix, num_classes=num_classes)

    cfg = ConfigDict(
        model={'type': 'Classifier', 'head': {'num_classes': num_classes}},
        train_dataloader={'dataset': entry('train')},
        val_dataloader={'dataset': entry('val')},
    )
    dataset = DATASETS.build({**entry(stage), 'lazy_init': True})
    assert ImageFolderChecker.applies_to(dataset)
    tally, statistics = ImageFolderChecker(dataset, entry(stage), stage, cfg).full(None, lambda items, *_: items)
    return {kind.what: (kind, seen) for kind, seen in tally}, statistics


def only(place: Path, what: str, severity: Severity, **arguments) -> str:
    found, _ = check(place, **arguments)
    assert len(found) == 1, found
    (name,) = found
    assert what in name
    assert found[name][0].severity is severity
    return found[name][1].places[0]


def test_good_folders(place):
    found, statistics = check(place)
    assert found == {}
    assert statistics.classes == {'bird': 2, 'cat': 2}
    assert statistics.facts == {'images': '4', 'classes': '2', 'image sizes': '30 x 20'}


def test_the_miniature_gives_no_finding(tmp_path):
    tmp_path = tmp_path / 'imagenet'
    ensure_miniature('imagenet', tmp_path.parent, train=12, val=12, size=(64, 64), progress=False)
    count = sum(path.is_dir() for path in (tmp_path / 'val').iterdir())
    assert check(tmp_path, num_classes=count)[0] == {}


def test_empty_class(place):
    for file in (place / 'val/cat').iterdir():
        file.unlink()
    assert only(place, 'without images', Severity.ERROR) == str(place / 'val/cat')


def test_stray_files(place):
    (place / 'val/cat/notes.txt').write_text('')
    assert only(place, 'no images', Severity.WARNING) == str(place / 'val/cat/notes.txt')
    (place / 'val/cat/notes.txt').rename(place / 'val/loose.jpg')
    assert only(place, 'outside of the folders', Severity.WARNING) == str(place / 'val/loose.jpg')


def test_undecodable(place):
    (place / 'val/cat/0.jpg').write_text('nothing')
    assert only(place, 'cannot be decoded', Severity.ERROR) == str(place / 'val/cat/0.jpg')


def test_other_classes_than_training(place):
    (place / 'val/cat').rename(place / 'val/ape')  # sorted before bird: both classes have other numbers
    found, _ = check(place)
    (entry,) = found.values()
    assert entry[1].places == [f'{place}/val/ape: not in training', f'{place}/val lacks cat, which training has']


def test_number_of_classes(place):
    assert '2 folders, num_classes=3' in only(place, 'other number of folders', Severity.ERROR, num_classes=3)


def test_no_folder(tmp_path):
    assert only(tmp_path, 'do not exist', Severity.ERROR) == str(tmp_path / 'val')


def test_quick_opens_nothing_after_its_time(place):
    (place / 'val/cat/0.jpg').write_text('nothing')
    entry = ConfigDict(type='mmvim.ImageNet', data_root=str(place), data_prefix={'img': 'val'}, num_classes=2)
    dataset = DATASETS.build({**entry, 'lazy_init': True})
    assert len(list(ImageFolderChecker(dataset, entry, 'val', ConfigDict()).quick(monotonic() + 60))) == 1


def test_a_head_that_keeps_its_own_number_of_classes(place):
    """Our classifiers' configs do not name it: what the data set wants counts."""
    entry = ConfigDict(type='mmvim.ImageNet', data_root=str(place), data_prefix={'img': 'val'}, lazy_init=True)
    cfg = ConfigDict(model={'type': 'Classifier', 'head': {'type': 'mmvim.LinearHead'}})
    tally, _ = ImageFolderChecker(DATASETS.build(entry), entry, 'val', cfg).full(None, lambda items, *_: items)
    assert any('2 folders, num_classes=1000' in seen.places[0] for _, seen in tally)
