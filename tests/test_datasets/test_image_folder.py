"""Images without labels: what is found in folders, and the pieces that are cut out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope

from mmvim.datasets.image_folder import ImageFolder, PackImage, RandomResizedCrop


def save(path: Path, height: int = 40, width: int = 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), (10, 20, 30), np.uint8))


def test_folders_of_any_depth(tmp_path: Path) -> None:
    for name in ('b.jpg', 'a.PNG', 'x/y/z/c.tif', 'x/d.jpeg', '.hidden/e.jpg', '.f.jpg'):
        save(tmp_path / 'train' / name)
    (tmp_path / 'train' / 'notes.txt').touch()
    save(tmp_path / 'elsewhere' / 'g.webp')
    (tmp_path / 'train' / 'link').symlink_to(tmp_path / 'elsewhere')
    expected = ['a.PNG', 'b.jpg', 'link/g.webp', 'x/d.jpeg', 'x/y/z/c.tif']
    for where in (
        {'data_root': str(tmp_path), 'data_prefix': {'img_path': 'train'}},
        {'data_root': str(tmp_path / 'train')},
    ):
        dataset = ImageFolder(**where, pipeline=[])
        found = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        assert [str(Path(path).relative_to(tmp_path / 'train')) for path in found] == expected


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere of images'):
        ImageFolder(data_root=str(tmp_path / 'nowhere'), pipeline=[])
    (tmp_path / 'a.txt').touch()
    with pytest.raises(ValueError, match=r'has no images, nor has any folder in it: expected \.bmp, '):
        ImageFolder(data_root=str(tmp_path), pipeline=[])


def test_the_way_of_an_image(tmp_path: Path) -> None:
    save(tmp_path / 'a.png')
    init_default_scope('mmengine')
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'mmvim.RandomResizedCrop', 'scale': (32, 48)},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'mmvim.PackImage'},
    ]
    sample = DATASETS.build({'type': 'mmvim.ImageFolder', 'data_root': str(tmp_path), 'pipeline': pipeline})[0]
    assert set(sample) == {'inputs'} and sample['inputs'].dtype == torch.uint8
    assert torch.equal(sample['inputs'], torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None].expand(3, 32, 48))


def pieces(image: np.ndarray, count: int, **options) -> np.ndarray:
    """What is cut out of an image whose channels tell row and column."""
    np.random.seed(0)
    crop = RandomResizedCrop(**options)
    return np.stack([crop({'img': image})['img'] for _ in range(count)])


def test_pieces_have_the_area_and_the_ratio_asked_for() -> None:
    rows, columns = np.mgrid[:200, :240].astype(np.float32)
    cut = pieces(np.stack([rows, columns], -1), 400, scale=64, area=(0.2, 0.4), ratio=(0.5, 2.0))
    assert cut.shape == (400, 64, 64, 2)
    # Whole sides from the distance between the first and the last place.
    height, width = ((cut[:, -1, -1, axis] - cut[:, 0, 0, axis]) * 64 / 63 for axis in (0, 1))
    area, ratio = height * width / (200 * 240), width / height
    assert 0.19 < area.min() < 0.22 and 0.38 < area.max() < 0.41
    assert 0.48 < ratio.min() < 0.55 and 1.8 < ratio.max() < 2.1
    assert 0.8 < np.median(ratio) < 1.25
    assert cut[..., 0].min() < 5 and cut[..., 0].max() > 194 and cut[..., 1].max() > 234  # from all over the image


def test_pieces_longer_than_the_image_are_cut_to_it() -> None:
    image = np.arange(20, dtype=np.uint8).reshape(2, 10).repeat(3).reshape(2, 10, 3)
    assert pieces(image, 20, scale=(8, 6), area=(1.0, 1.0)).shape == (20, 8, 6, 3)


@pytest.mark.parametrize(
    'options',
    [{'area': (0.5, 1.2)}, {'area': (0.9, 0.5)}, {'area': (0, 1)}, {'ratio': (2.0, 1.0)}, {'ratio': (0, 1)}],
)
def test_ranges(options: dict) -> None:
    with pytest.raises(ValueError, match='expected a range within 0 to 1 and one of positive numbers'):
        RandomResizedCrop(32, **options)
    with pytest.raises(ValueError, match='scale=0: expected pixels'):
        RandomResizedCrop(0)


def test_packing_copies_flipped_images() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    packed = PackImage().transform({'img': image[:, ::-1]})['inputs']
    assert torch.equal(packed, torch.from_numpy(image).permute(2, 0, 1).flip(2))
