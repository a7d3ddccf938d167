"""Videos with label maps, and how steady predictions of them are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, METRICS

import mmvim.engine  # noqa: F401
from mmvim.datasets.vspw import CLASSES
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.moving import VSPW_NUMBERS

SETTINGS = {'type': 'mmvim.VSPW', 'ann_file': 'train.txt', 'data_prefix': {'video_path': 'data'}, 'pipeline': []}


def sample(video: str, frame: int, truth: np.ndarray, predicted: np.ndarray) -> dict:
    maps = {'gt_sem_seg': truth, 'pred_sem_seg': predicted}
    return {
        'img_path': f'videos/{video}/origin/{frame:08d}.jpg',
        **{key: {'data': torch.from_numpy(each)[None]} for key, each in maps.items()},
    }


def slow_shares(truth: np.ndarray, predicted: np.ndarray, length: int) -> list[float]:
    """The definition, window by window: (frames, H, W) each."""
    found = []
    for start in range(len(truth) - length):
        still, steady = ((maps[start : start + length] == maps[start]).all(0) for maps in (truth, predicted))
        if still.any():
            found.append((still & steady).sum() / still.sum())
    return found


def test_shares_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    metric = METRICS.build({'type': 'mmvim.VideoConsistency', 'frames': (2, 5)})
    expected = {2: [], 5: []}
    samples = []
    for video, frames in (('a', 9), ('b', 6), ('short', 3)):
        changes = rng.random((2, frames, 4, 5)) < 0.2
        maps = changes.cumsum(1) % 200 + rng.integers(0, 3, (2, 1, 4, 5))
        for length, shares in expected.items():
            shares += slow_shares(*maps, length)
        samples += [sample(video, frame, maps[0, frame], maps[1, frame]) for frame in range(frames)]
    for index in rng.permutation(len(samples)):  # any order
        metric.process({}, [samples[index]])
    found = metric.evaluate(len(samples))
    assert found == {f'mVC{length}': pytest.approx(100 * np.mean(shares)) for length, shares in expected.items()}
    assert 0 < found['mVC5'] < found['mVC2'] < 100


def test_steady_and_wrong_is_steady() -> None:
    metric = METRICS.build({'type': 'mmvim.VideoConsistency', 'frames': (3,)})
    truth = np.zeros((2, 2), np.int64)
    for frame in range(5):
        metric.process({}, [sample('a', frame, truth, np.array([[1, 1], [1, frame]]))])
    assert metric.evaluate(5) == {'mVC3': 75.0}


def test_what_has_no_consistency(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserValueError, match='at least 2'):
        METRICS.build({'type': 'mmvim.VideoConsistency', 'frames': (1,)})
    metric = METRICS.build({'type': 'mmvim.VideoConsistency', 'frames': (8,)})
    metric.process({}, [sample('a', 0, np.zeros((2, 2)), np.zeros((2, 2)))])
    assert np.isnan(metric.evaluate(1)['mVC8'])
    for frame, side in enumerate((2, 3)):
        metric.process({}, [sample('a', frame, np.zeros((side, 2)), np.zeros((side, 2)))])
    with pytest.raises(UserValueError, match='another size'):
        metric.evaluate(2)


def test_predictions_are_written_in_the_numbers_of_the_label_maps(tmp_path: Path) -> None:
    settings = {'type': 'mmvim.VideoConsistency', 'output_dir': str(tmp_path / 'maps'), 'format_only': True}
    metric = METRICS.build(settings)
    for video in ('a', 'b'):
        shown = sample(video, 7, np.zeros((1, 2)), np.array([[0, 123]]))
        del shown['gt_sem_seg']  # a test set without labels
        metric.process({}, [{**shown, 'reduce_zero_label': True}])
    assert metric.evaluate(2) == {}
    for video in ('a', 'b'):
        labels = cv2.imread(str(tmp_path / f'maps/{video}/00000007.png'), cv2.IMREAD_UNCHANGED)
        assert labels.tolist() == [[1, 124]]


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('videos') / 'VSPW_480p'
    ensure_miniature('vspw', folder, train=23, val=4, size=(48, 64), progress=False)
    return folder


def test_frames_in_their_order(videos: Path) -> None:
    assert len(CLASSES) == 124 and len(set(CLASSES)) == 124
    dataset = DATASETS.build({**SETTINGS, 'data_root': str(videos)})
    assert len(dataset) == 23
    images = [Path(dataset[index]['img_path']) for index in range(23)]
    assert [path.parents[1].name for path in images] == ['1_scene'] * 20 + ['3_scene'] * 3
    assert [int(path.stem) for path in images] == [*range(20), 0, 1, 2]
    assert all(Path(dataset[index]['seg_map_path']).is_file() for index in range(23))


def test_the_miniature_moves_and_stands(videos: Path) -> None:
    folder = videos / 'data/1_scene'
    images, masks = (
        np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / part).iterdir())])
        for part in ('origin', 'mask')
    )
    assert images.shape == (20, 48, 64, 3) and masks.shape == (20, 48, 64)
    assert set(np.unique(masks)) <= {0, *VSPW_NUMBERS.values()}
    assert all(
        CLASSES[number - 1].startswith('ship' if name == 'boat' else name) for name, number in VSPW_NUMBERS.items()
    )
    changed = (masks[1:] != masks[:-1]).mean()
    assert 0.01 < changed < 0.5
    assert {path.name for path in videos.iterdir()} == {'data', 'train.txt', 'val.txt', 'miniature.json'}


def test_what_is_wrong_is_named(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserFileNotFoundError, match=r'no list of videos .*nowhere\.txt'):
        DATASETS.build({**SETTINGS, 'data_root': str(videos), 'ann_file': 'nowhere.txt'})
    (tmp_path / 'train.txt').write_text('lost\n')
    with pytest.raises(UserFileNotFoundError, match='names the video lost'):
        DATASETS.build({**SETTINGS, 'data_root': str(tmp_path)})
    (tmp_path / 'train.txt').write_text('\n')
    with pytest.raises(UserValueError, match='names no video'):
        DATASETS.build({**SETTINGS, 'data_root': str(tmp_path)})
    with pytest.raises(UserValueError, match='124 classes'):
        DATASETS.build({**SETTINGS, 'data_root': str(videos), 'metainfo': {'classes': ('sky',)}})
