"""ImageNet's folders and the way an image takes to a classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmvim.datasets.accuracy import Accuracy
from mmvim.datasets.imagenet import ImageNet, LoadForClassifier


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def read(path: Path, **options) -> np.ndarray:
    """(H, W, 3) of what the classifier gets."""
    sample = LoadForClassifier(**options)({'img_path': str(path), 'gt_label': 3})
    assert sample['inputs'].dtype == torch.uint8
    assert int(sample['data_samples'].gt_label) == 3
    return sample['inputs'].permute(1, 2, 0).numpy()


def test_classes_are_numbered_by_the_order_of_folders(tmp_path: Path) -> None:
    for name in ('n03/b.JPEG', 'n03/a.png', 'n01/c.jpg', 'n02/d.jpeg'):
        save(tmp_path / 'val' / name, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'val' / 'n01' / 'notes.txt').touch()
    dataset = ImageNet(3, data_root=str(tmp_path), data_prefix={'img': 'val'}, pipeline=[])
    found = [(Path(dataset.get_data_info(i)['img_path']).name, dataset.get_data_info(i)['gt_label']) for i in range(4)]
    assert found == [('c.jpg', 0), ('d.jpeg', 1), ('a.png', 2), ('b.JPEG', 2)]
    assert len(dataset) == 4


def test_other_numbers_of_folders(tmp_path: Path) -> None:
    def message(error: type[Exception]) -> str:
        with pytest.raises(error) as caught:
            ImageNet(2, data_root=str(tmp_path), data_prefix={'img': 'val'}, pipeline=[])
        return str(caught.value)

    assert 'there is no folder' in message(FileNotFoundError)
    save(tmp_path / 'val' / 'ILSVRC2012_val_00000001.JPEG', np.zeros((8, 8, 3), np.uint8))
    said = message(ValueError)
    assert 'has 0 folders and the classifier 2 classes' in said
    assert '1 images outside of folders' in said
    for name in ('n01', 'n02'):
        (tmp_path / 'val' / name).mkdir()
    assert 'no images in its folders' in message(ValueError)


@pytest.mark.parametrize(
    ('height', 'width', 'resized', 'left', 'top'),
    # Worked out by hand: the long side is cut to whole pixels, halves are rounded to even.
    [(300, 500, (256, 426), 101, 16), (500, 301, (425, 256), 16, 100), (256, 256, (256, 256), 16, 16)],
)
def test_sides_and_offsets(tmp_path: Path, height: int, width: int, resized, left: int, top: int) -> None:
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    path = save(tmp_path / 'a.png', image)
    expected = np.asarray(Image.fromarray(image).resize(resized[::-1], Image.Resampling.BICUBIC))
    assert np.array_equal(read(path), expected[top : top + 224, left : left + 224])


def test_interpolation_is_filtered(tmp_path: Path) -> None:
    """Single bright columns, 16 apart, come out as an even grey when every 64 of them become one pixel."""
    image = np.zeros((64 * 16, 64 * 16, 3), np.uint8)
    image[:, ::16] = 255
    small = read(save(tmp_path / 'a.png', image), resize=16, crop=8)
    assert np.abs(small.astype(int) - 255 / 16).max() <= 2


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK'])
def test_colours_of_any_kind_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ('a.jpg' if mode == 'CMYK' else 'a.png')
    Image.new('RGB', (40, 30), (200, 100, 50)).convert(mode).save(path)
    assert read(path, resize=16, crop=16).shape == (16, 16, 3)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.JPEG'
    path.write_text('no image')
    with pytest.raises(ValueError, match=r'a\.JPEG cannot be read as an image'):
        read(path)
    with pytest.raises(ValueError, match='crop=300: expected at most resize=256'):
        LoadForClassifier(256, 300)


def test_accuracy() -> None:
    scores = [[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.5, 0.5, 0.5]]
    metric = Accuracy(topk=(1, 2))
    for label, score in zip([1, 2, 0, 0], scores, strict=True):
        metric.process({}, [{'pred_scores': torch.tensor(score), 'gt_label': torch.tensor(label)}])
    assert metric.evaluate(4) == {'accuracy/top1': 25.0, 'accuracy/top2': 50.0}
    with pytest.raises(ValueError, match=r'b\.JPEG are not finite'):
        metric.process(
            {}, [{'pred_scores': torch.tensor([float('nan')]), 'gt_label': torch.tensor(0), 'img_path': 'b.JPEG'}]
        )
