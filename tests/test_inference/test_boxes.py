"""Objects found window by window: those of several windows become one, and the files say where they are."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
import torch
from mmengine.structures import BaseDataElement, InstanceData
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmvim.inference.boxes import Found, found_in, merge, to_coco
from mmvim.inference.detect import detect_large
from mmvim.inference.patches import Patch, cut_out, run_lengths, union

# x, y, width, height of what is in the image, and its class.
OBJECTS = [(40, 10, 20, 30, 0), (5, 60, 12, 9, 0), (120, 55, 30, 14, 1), (63, 64, 1, 1, 1), (130, 100, 21, 11, 0)]
SIZE = (111, 151)


class Seer:
    """In place of a detector that makes no mistakes: red rectangles are of class 0, green ones of class 1."""

    def __init__(self, classes: tuple[str, ...] = ('a', 'b'), masks: bool = True) -> None:
        from mmdet.visualization import DetLocalVisualizer

        palette = [(255, 0, 0), (0, 255, 0)][: len(classes)]
        self.model = SimpleNamespace(dataset_meta={'classes': classes, 'palette': palette})
        self.pipeline = SimpleNamespace(transforms=[SimpleNamespace(scale=(96, 64))])
        self.visualizer = DetLocalVisualizer()
        self.shapes = []
        self._masks = masks

    def __call__(self, windows: list[np.ndarray], batch_size: int, return_datasamples: bool) -> dict:
        self.shapes += [window.shape for window in windows]
        return {'predictions': [BaseDataElement(pred_instances=self._see(window)) for window in windows]}

    def _see(self, window: np.ndarray) -> InstanceData:
        boxes, labels, masks = [], [], []
        for label in range(len(self.model.dataset_meta['classes'])):
            count, regions, boxes_of, _ = cv2.connectedComponentsWithStats(
                (window[..., 2 - label] > 200).astype(np.uint8)
            )
            for number in range(1, count):
                x, y, width, height = boxes_of[number, :4].tolist()
                boxes.append((x, y, x + width, y + height))
                labels.append(label)
                masks.append(regions == number)
        sizes = torch.tensor([float(mask.sum()) for mask in masks])
        instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=sizes / 10000 + 0.5,  # what is seen whole is surer
        )
        if self._masks:
            instances.masks = torch.from_numpy(np.array(masks).reshape(len(masks), *window.shape[:2]))
        return instances


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The objects on black, as a TIFF in tiles."""
    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    for x, y, width, height, label in OBJECTS:
        pixels[y : y + height, x : x + width, label] = 255
    tifffile.imwrite(tmp_path / 'x.tif', pixels, photometric='rgb', tile=(32, 32))
    return tmp_path / 'x.tif'


@pytest.mark.parametrize(('window', 'stride'), [(64, None), (64, 33), (80, 50), (500, None), (51, 19)])
@pytest.mark.parametrize('masks', [True, False])
def test_every_object_is_found_once(image: Path, window: int, stride: int | None, masks: bool) -> None:
    """Wherever windows begin and end; and read by pycocotools the file has the objects that were drawn."""
    seer, steps = Seer(masks=masks), []
    size = (window, window)
    json_file, picture = detect_large(
        seer, image, image.with_name('out'), size, stride and (stride, stride), 3, steps.append, steps.append
    )
    assert steps[0] == sum(steps[1:]) == len(seer.shapes)
    assert set(seer.shapes) == {(min(window, SIZE[0]), min(window, SIZE[1]), 3)}
    coco = COCO(str(json_file))
    found = {
        (*(round(value) for value in one['bbox']), one['category_id'] - 1): coco.annToMask(one)
        for one in coco.dataset['annotations']
    }
    assert len(coco.dataset['annotations']) == len(OBJECTS) and set(found) == set(OBJECTS)
    for (x, y, width, height, _), mask in found.items():
        expected = np.zeros(SIZE, dtype=np.uint8)
        expected[y : y + height, x : x + width] = 1
        if masks:
            np.testing.assert_array_equal(mask, expected)
    assert coco.dataset['images'] == [{'id': 1, 'file_name': 'x.tif', 'width': 151, 'height': 111}]
    scores = [one['score'] for one in coco.dataset['annotations']]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.5
    assert cv2.imread(str(picture)).shape == (*SIZE, 3)


def test_one_class_and_none_found(image: Path) -> None:
    json_file, picture = detect_large(Seer(('thing',)), image, image.with_name('one'), score=0.9)
    content = json.loads(json_file.read_text())
    assert content['annotations'] == [] and content['categories'] == [{'id': 1, 'name': 'thing'}]
    np.testing.assert_array_equal(cv2.imread(str(picture))[..., ::-1], tifffile.imread(image))


def test_the_usual_window_is_what_the_pipeline_leaves_as_it_is(image: Path) -> None:
    seer = Seer()
    detect_large(seer, image, image.with_name('out'))
    assert set(seer.shapes) == {(64, 64, 3)}


def test_a_large_picture_is_thinned_with_boxes_and_masks(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmvim.inference.detect.SMALL', 51)
    seer, shown = Seer(), {}
    monkeypatch.setattr(
        'mmvim.inference.detect.draw', lambda _, small, found, score: shown.update(small=small, found=found) or small
    )
    detect_large(seer, image, image.with_name('out'), (64, 64))
    seen = shown['found'].pred_instances
    assert shown['small'].shape == (37, 51, 3)
    for box, label, mask in zip(seen.bboxes, seen.labels, seen.masks, strict=True):
        x, y, width, height, _ = next(one for one in OBJECTS if abs(one[0] / 3 - float(box[0])) < 1e-4)
        expected = np.zeros(SIZE, dtype=bool)
        expected[y : y + height, x : x + width] = True
        np.testing.assert_array_equal(mask, expected[::3, ::3])
        assert ((shown['small'][..., 2 - label] > 0) >= mask.numpy()).all()


def test_a_stride_with_gaps_is_refused(image: Path) -> None:
    with pytest.raises(ValueError, match=r'a stride of \(65, 65\) for a window of \(64, 64\) leaves pixels out'):
        detect_large(Seer(), image, image.with_name('out'), (64, 64), (65, 65))
    assert sorted(path.name for path in image.parent.iterdir()) == ['x.tif']


def test_other_classes_and_neighbours_stay() -> None:
    boxes = [(0, 0, 10, 10), (1, 1, 10, 10), (8, 0, 18, 10), (6, 0, 9, 10)]
    ordered = zip(boxes, (0.9, 0.8, 0.7, 0.6), (0, 1, 0, 0), strict=True)
    found = [Found(np.array(box, dtype=float), score, label) for box, score, label in ordered]
    merged = merge(found)
    assert [(tuple(one.box), one.label) for one in merged] == [
        ((0, 0, 10, 10), 0), ((1, 1, 10, 10), 1), ((8, 0, 18, 10), 0)
    ]  # fmt: skip
    assert merge([]) == []


def test_rotated_boxes() -> None:
    """The surest of several stays; the file has their corners."""
    instances = InstanceData(
        bboxes=torch.tensor([[20.0, 10, 12, 4, np.pi / 2], [50, 50, 10, 10, 0.0], [5, 5, 4, 4, 0.0]]),
        scores=torch.tensor([0.9, 0.8, 0.1]),
        labels=torch.tensor([1, 0, 0]),
    )
    found = found_in(instances, 100, 0, 0.3) + [Found(np.array([121.0, 10, 12, 4, np.pi / 2]), 0.5, 1)]
    merged = merge(found)
    assert [one.score for one in merged] == pytest.approx([0.9, 0.8])
    first, second = to_coco(merged, 'x.tif', (200, 300), ('a', 'b'))['annotations']
    assert first['bbox'] == [118, 4, 4, 12] and second['bbox'] == [145, 45, 10, 10]
    corners = np.array(first['segmentation'][0]).reshape(4, 2)
    assert {tuple(corner) for corner in corners} == {(118, 4), (122, 4), (122, 16), (118, 16)}
    assert first['area'] == pytest.approx(48) and first['category_id'] == 2


def test_run_lengths_are_those_of_pycocotools() -> None:
    generator = np.random.default_rng(0)
    for case in range(40):
        height, width = generator.integers(1, 12, 2)
        mask = generator.random((height, width)) < (0.0, 0.3, 0.9, 1.0)[case % 4]
        packed = run_lengths(cut_out(mask, 0, 0), int(height), int(width))
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert (packed['counts'], packed['size']) == (expected['counts'].decode(), expected['size'])


def test_union_of_masks() -> None:
    canvas = np.zeros((30, 40), dtype=bool)
    parts = []
    for (left, top), size in zip([(3, 4), (8, 2), (20, 25)], [(5, 7), (6, 6), (2, 9)], strict=True):
        pixels = np.random.default_rng(left).random(size) < 0.6
        canvas[top : top + size[0], left : left + size[1]] |= pixels
        parts.append(Patch(left, top, pixels))
    whole = union([*parts, Patch(0, 0, np.zeros((0, 0), dtype=bool))])
    decoded = coco_mask.decode(run_lengths(whole, 30, 40)).astype(bool)
    np.testing.assert_array_equal(decoded, canvas)
    assert all(len(one.pixels) == 0 for one in (union([cut_out(np.zeros((3, 3), bool), 5, 5)]),))


def test_scores_of_parts_do_not_pass_the_whole(image: Path) -> None:
    """Of an object that windows cut, the score is that of the window which saw most of it."""
    content = json.loads(detect_large(Seer(), image, image.with_name('out'), (64, 64), (33, 33))[0].read_text())
    areas = [one['area'] for one in content['annotations']]
    assert all(first >= second for first, second in pairwise(areas))
    for one in content['annotations']:
        assert one['score'] == pytest.approx(one['area'] / 10000 + 0.5, abs=1e-3)
