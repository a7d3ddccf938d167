"""Each fault of a COCO file is found, counted and named; a file without faults gives no finding."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as pycocotools_mask

from mmvim.miniature.masks import run_lengths
from mmvim.preflight.data.checker import Statistics, no_progress
from mmvim.preflight.data.coco.checker import CocoChecker
from mmvim.preflight.data.coco.masks import area_of, decode_counts
from mmvim.preflight.data.parts import checkers_of
from mmvim.preflight.data.tally import Severity, Tally

ROOT = Path(__file__).resolve().parents[3]
NAMES = {7: 'car', 3: 'person', 40: 'dog'}
HEIGHT, WIDTH = 48, 64


def coco(images: int = 3) -> dict:
    """A file without faults: a car and a person in each image, of which the last is a crowd."""
    data = {'images': [], 'annotations': [], 'categories': [{'id': key, 'name': name} for key, name in NAMES.items()]}
    for number in range(images):
        data['images'].append({'id': number, 'file_name': f'{number}.jpg', 'height': HEIGHT, 'width': WIDTH})
        for category in (7, 3):
            x, y, w, h = 4 + 3 * number, 5 + category, 20, 16
            data['annotations'].append(
                {
                    'id': len(data['annotations']) + 1, 'image_id': number, 'category_id': category,
                    'bbox': [x, y, w, h], 'area': w * h, 'iscrowd': 0,
                    'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )  # fmt: skip
    data['annotations'][-1].update(iscrowd=1, segmentation=run_lengths(mask_of(data['annotations'][-1]['bbox'])))
    return data


def mask_of(box: list[int]) -> np.ndarray:
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return mask


def compressed(mask: np.ndarray) -> dict:
    code = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'counts': code['counts'].decode(), 'size': list(code['size'])}


def write(root: Path, data: dict | str) -> None:
    (root / 'img').mkdir(parents=True, exist_ok=True)
    for number in range(3):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * number, dtype=np.uint8)).save(root / 'img' / f'{number}.jpg')
    (root / 'train.json').write_text(data if isinstance(data, str) else json.dumps(data))


def config(root: Path, classes: tuple | str = tuple(NAMES.values()), masks: bool = True) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / 'vim' / 'mask_rcnn_vim_t_coco.py')
    place = {'data_root': str(root), 'ann_file': 'train.json', 'data_prefix': {'img': 'img/'}}
    for stage in ('train', 'val', 'test'):
        cfg[f'{stage}_dataloader'].dataset.update(place, metainfo={'classes': classes})
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / 'train.json')
    cfg.model.roi_head.bbox_head.num_classes = cfg.model.roi_head.mask_head.num_classes = 3
    if not masks:
        cfg.model.roi_head.mask_head = None
        for stage in ('train', 'val', 'test'):
            for step in cfg[f'{stage}_dataloader'].dataset.pipeline:
                if 'with_mask' in step:
                    step.with_mask = False
        cfg.val_evaluator.metric = cfg.test_evaluator.metric = 'bbox'
    return cfg


def checker_of(cfg: Config, stage: str = 'train') -> CocoChecker:
    outside = Tally()
    (checker,) = checkers_of(cfg, [stage], outside)
    assert isinstance(checker, CocoChecker) and not list(outside)
    return checker


def full(cfg: Config, stage: str = 'train') -> tuple[Tally, Statistics]:
    return checker_of(cfg, stage).full(None, no_progress)


def found(tally: Tally) -> dict[str, tuple[Severity, int]]:
    return {kind.what: (kind.severity, seen.count) for kind, seen in tally}


def of(position: int, **values: object) -> Callable[[dict], None]:
    return lambda data: data['annotations'][position].update(values)


def of_all(change: Callable[[dict], object]) -> Callable[[dict], None]:
    return lambda data: [change(annotation) for annotation in data['annotations']]


def copied(data: dict) -> None:
    data['annotations'].append({**data['annotations'][0], 'id': 99})


SHORT = {'counts': [10, 10], 'size': [HEIGHT, WIDTH]}
OTHER = {'counts': [100], 'size': [10, 10]}
FULL_TEXT = compressed(mask_of([2, 3, 20, 20]))
SHORT_TEXT = {'counts': FULL_TEXT['counts'][:-1], 'size': [HEIGHT, WIDTH]}
GOOD = [4, 4, 20, 4, 20, 20]
# Change of a good file: the words of the fault, how grave it is, and how many there are.
FAULTS: dict[str, tuple[Callable[[dict], object], str, Severity, int]] = {
    'no iscrowd': (of_all(lambda a: a.pop('iscrowd')), 'without iscrowd', Severity.NOTE, 6),
    'no area': (of_all(lambda a: a.pop('area')), 'without an area', Severity.NOTE, 6),
    'area of 0': (of(1, area=0), 'without an area', Severity.NOTE, 1),
    'iscrowd as text': (of(0, iscrowd='0'), 'iscrowd that is neither', Severity.WARNING, 1),
    'ignored': (of(0, ignore=1), 'marked with ignore', Severity.NOTE, 1),
    'two points': (of(0, segmentation=[[1, 1, 20, 20]]), 'fewer than three points', Severity.LEFT_OUT, 1),
    'odd': (of(0, segmentation=[[*GOOD, 3]]), 'odd number of coordinates', Severity.LEFT_OUT, 1),
    'a part of two points': (of(0, segmentation=[GOOD, [1, 1, 2, 2]]), 'beside good ones', Severity.WARNING, 1),
    'empty polygon': (of(0, segmentation=[]), 'without a mask', Severity.LEFT_OUT, 1),
    'no segmentation': (lambda d: d['annotations'][0].pop('segmentation'), 'without a mask', Severity.LEFT_OUT, 1),
    'flat list': (of(0, segmentation=GOOD), 'neither polygons nor run lengths', Severity.LEFT_OUT, 1),
    'text as mask': (of(0, segmentation='abc'), 'neither polygons nor run lengths', Severity.LEFT_OUT, 1),
    'no counts': (of(0, segmentation={'size': [1, 2]}), 'neither polygons nor run', Severity.LEFT_OUT, 1),
    'NaN in a polygon': (of(0, segmentation=[[math.nan, *GOOD[1:]]]), 'that are no numbers', Severity.LEFT_OUT, 1),
    'text in a polygon': (of(0, segmentation=[['a', *GOOD[1:]]]), 'that are no numbers', Severity.LEFT_OUT, 1),
    'polygon beyond': (of(0, segmentation=[[*GOOD[:4], 90, 20]]), 'polygons that reach beyond', Severity.WARNING, 1),
    'polygon of a line': (of(0, segmentation=[[1, 1, 5, 5, 9, 9]]), 'without a pixel', Severity.WARNING, 1),
    'no masks': (of_all(lambda a: a.pop('segmentation')), 'files without masks', Severity.ERROR, 1),
    'short run lengths': (of(5, segmentation=SHORT), 'do not add up', Severity.LEFT_OUT, 1),
    'short text': (of(5, segmentation=SHORT_TEXT), 'do not add up', Severity.LEFT_OUT, 1),
    'run lengths of another size': (of(5, segmentation=OTHER), 'another size than their image', Severity.LEFT_OUT, 1),
    'flat box': (of(0, bbox=[5, 5, 0, 10]), 'no width or no height', Severity.LEFT_OUT, 1),
    'negative box': (of(0, bbox=[5, 5, -3, 10]), 'no width or no height', Severity.LEFT_OUT, 1),
    'tiny box': (of(0, bbox=[5, 5, 0.5, 10]), 'below one pixel', Severity.WARNING, 1),
    'no box': (lambda d: d['annotations'][0].pop('bbox'), 'not four numbers', Severity.LEFT_OUT, 1),
    'NaN in a box': (of(0, bbox=[5, math.nan, 5, 10]), 'not four numbers', Severity.LEFT_OUT, 1),
    'box of three': (of(0, bbox=[5, 5, 5]), 'not four numbers', Severity.LEFT_OUT, 1),
    'box of text': (of(0, bbox=['5', '5', '5', '5']), 'not four numbers', Severity.LEFT_OUT, 1),
    'box elsewhere': (of(0, bbox=[100, 5, 5, 10]), 'wholly outside', Severity.LEFT_OUT, 1),
    'box beyond': (of(0, bbox=[60, 5, 20, 10]), 'boxes that reach beyond', Severity.WARNING, 1),
    'boxes as corners': (of_all(lambda a: a.update(bbox=[30, 20, 60, 44])), 'look like x0, y0', Severity.ERROR, 1),
    'boxes as fractions': (of_all(lambda a: a.update(bbox=[0.1, 0.2, 0.3, 0.4])), 'are fractions', Severity.ERROR, 1),
    'unknown category': (of(0, category_id=99), 'category that is not in the file', Severity.LEFT_OUT, 1),
    'list as category': (of(0, category_id=[7]), 'category that is not in the file', Severity.LEFT_OUT, 1),
    'category as text': (
        of_all(lambda a: a.update(category_id=str(a['category_id']))), 'category_id as text', Severity.ERROR, 6,
    ),
    'other categories': (of_all(lambda a: a.update(category_id=99)), 'all belong to categories', Severity.ERROR, 1),
    'category id twice': (
        lambda d: d['categories'].append({'id': 7, 'name': 'cat'}), 'category ids that several', Severity.ERROR, 1,
    ),
    'category name twice': (
        lambda d: d['categories'].append({'id': 8, 'name': 'car'}), 'category names that several', Severity.ERROR, 1,
    ),
    'unknown image': (of(0, image_id=99), 'images that are not in the file', Severity.LEFT_OUT, 1),
    'image id as text': (
        of_all(lambda a: a.update(image_id=str(a['image_id']))), 'all belong to images', Severity.ERROR, 1,
    ),
    'annotation id twice': (of(0, id=2), 'ids that several annotations have', Severity.WARNING, 1),
    'no annotation id': (lambda d: d['annotations'][0].pop('id'), 'without an id', Severity.NOTE, 1),
    'annotation id 0': (of(0, id=0), 'with id 0', Severity.NOTE, 1),
    'annotation twice': (copied, 'there more than once', Severity.WARNING, 1),
    'image id twice': (lambda d: d['images'][1].update(id=0), 'image ids that several', Severity.ERROR, 1),
    'image file twice': (
        lambda d: d['images'].append({**d['images'][0], 'id': 9}), 'files that are listed more', Severity.WARNING, 1,
    ),
    'no annotations': (lambda d: d['annotations'].clear(), 'without any annotation', Severity.ERROR, 1),
    'no images': (lambda d: d['images'].clear(), 'without the lists of COCO', Severity.ERROR, 1),
    'no height': (lambda d: d['images'][0].pop('height'), 'lack what COCO always has', Severity.ERROR, 1),
    'height as text': (lambda d: d['images'][0].update(height='48'), 'lack what COCO', Severity.ERROR, 1),
    'no object': (lambda d: d['annotations'].append(3), 'lack what COCO always has', Severity.ERROR, 1),
    'missing image': (lambda d: d['images'][0].update(file_name='x.jpg'), 'images that are missing', Severity.ERROR, 1),
    'other case': (lambda d: d['images'][0].update(file_name='0.JPG'), 'differ in case', Severity.ERROR, 1),
    'other suffix': (lambda d: d['images'][0].update(file_name='0.png'), 'another suffix', Severity.ERROR, 1),
    'folder twice': (
        lambda d: [image.update(file_name=f'img/{image["file_name"]}') for image in d['images']],
        'a folder too many', Severity.ERROR, 3,
    ),
    'other size': (lambda d: d['images'][0].update(width=66), 'another size than the annotation', Severity.WARNING, 1),
    **{
        f'no {key}': (lambda d, key=key: d.pop(key), 'without the lists of COCO', Severity.ERROR, 1)
        for key in ('images', 'annotations', 'categories')
    },
}  # fmt: skip


def test_a_good_file_gives_no_finding(tmp_path: Path) -> None:
    data = coco()
    data['annotations'][4]['segmentation'] = compressed(mask_of(data['annotations'][4]['bbox']))
    write(tmp_path, data)
    for stage in ('train', 'val'):
        checker = checker_of(config(tmp_path), stage)
        assert found(checker.quick(math.inf)) == {}
        tally, statistics = checker.full(None, no_progress)
        assert found(tally) == {} and checker.mend(tmp_path / 'mended') == ''
    assert statistics.classes == {'car': 3, 'person': 3, 'dog': 0}
    assert statistics.facts['images'] == '3' and statistics.facts['crowds'] == '1'
    assert statistics.facts['boxes per image'] == '2 to 2, median 2, mean 2.0'
    assert not (tmp_path / 'mended').exists()


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_found(fault: str, tmp_path: Path) -> None:
    change, words, severity, count = FAULTS[fault]
    data = coco()
    change(data)
    write(tmp_path, data)
    tally, _ = full(config(tmp_path))
    (said,) = [what for what in found(tally) if words in what]
    assert found(tally)[said] == (severity, count)
    kind = next(kind for kind, _ in tally if kind.what == said)
    assert kind.remedy and tally[kind].places[0].startswith((str(tmp_path), 'train'))


def test_an_annotation_is_named_by_image_and_id(tmp_path: Path) -> None:
    data = coco()
    data['annotations'][2]['segmentation'] = [[1, 1, 2, 2]]
    write(tmp_path, data)
    ((_, seen),) = full(config(tmp_path))[0]
    assert seen.places == [f'{tmp_path}/train.json: image 1 (1.jpg), annotation 3']


@pytest.mark.parametrize(
    ('text', 'words', 'place'),
    [
        (json.dumps(coco())[:500], 'end too early', 'line 1'),
        ('', 'no JSON', 'empty'),
        ('id,box\n1,2', 'no JSON', 'line 1, column 1'),
        ('[1, 2]', 'without the lists of COCO', 'a list at the top'),
        ('{"images": 3}', 'without the lists of COCO', 'no list images and no list annotations'),
        ('[' * 100_000, 'no JSON', 'nested too deeply'),
    ],
)
def test_a_file_that_is_none(text: str, words: str, place: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    ((kind, seen),) = full(config(tmp_path))[0]
    assert words in kind.what and kind.severity is Severity.ERROR and place in seen.places[0]


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    write(tmp_path, '\ufeff' + json.dumps(coco()))
    cfg = config(tmp_path)
    checker = checker_of(cfg)
    ((kind, _),) = checker.quick(math.inf)
    assert kind.severity is Severity.NOTE
    checker.mend(tmp_path / 'mended')
    assert json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text()) == coco()


@pytest.mark.parametrize(
    ('classes', 'words', 'line'),
    [
        (('person', 'car', 'dog'), 'another order', "metainfo=dict(classes=('car', 'person', 'dog'))"),
        (('Car', 'person', 'dog'), 'not in the file', "metainfo=dict(classes=('car', 'person', 'dog'))"),
        (('car', 'person', 'cat'), 'not in the file', "metainfo=dict(classes=('car', 'person'))"),
        (('a', 'b', 'c'), 'not in the file', "metainfo=dict(classes=('car', 'person', 'dog'))"),
        ('car', 'one text', "metainfo=dict(classes=('car',))"),
    ],
)
def test_classes_that_are_not_those_of_the_file(classes: tuple | str, words: str, line: str, tmp_path: Path) -> None:
    write(tmp_path, coco())
    ((kind, seen),) = full(config(tmp_path, classes))[0]
    assert words in kind.what and kind.severity is Severity.ERROR and line in kind.remedy
    assert repr(tuple(NAMES.values())) in seen.places[0] and repr(classes) in seen.places[0]


def test_some_of_the_classes_are_enough(tmp_path: Path) -> None:
    write(tmp_path, coco())
    cfg = config(tmp_path, ('person', 'dog'))
    cfg.model.roi_head.bbox_head.num_classes = cfg.model.roi_head.mask_head.num_classes = 2
    tally, statistics = full(cfg)
    ((kind, seen),) = tally
    assert kind.severity is Severity.NOTE and (seen.count, seen.places) == (3, ['train: 3 of car'])
    assert statistics.classes == {'person': 3, 'dog': 0}


def test_mmdet_numbers_by_the_file(tmp_path: Path) -> None:
    """What the check of the order rests on."""
    from mmengine.registry import DATASETS, init_default_scope

    write(tmp_path, coco())
    init_default_scope('mmdet')
    dataset = DATASETS.build(config(tmp_path, ('dog', 'person', 'car')).train_dataloader.dataset.to_dict())
    assert dataset.cat2label == {7: 0, 3: 1, 40: 2}


def test_numbers_of_classes(tmp_path: Path) -> None:
    write(tmp_path, coco())
    cfg = config(tmp_path)
    cfg.model.roi_head.mask_head.num_classes = 80
    ((kind, seen),) = full(cfg)[0]
    assert kind.severity is Severity.ERROR and 'set model.roi_head.mask_head.num_classes=3' in kind.remedy
    assert seen.places == ['model.roi_head.mask_head.num_classes=80, train: 3 classes']


def test_masks_do_not_matter_to_a_model_of_boxes(tmp_path: Path) -> None:
    data = coco()
    for annotation in data['annotations']:
        annotation['segmentation'] = []
    write(tmp_path, data)
    for stage in ('train', 'val'):
        assert found(full(config(tmp_path, masks=False), stage)[0]) == {}


def test_a_mask_head_without_masks(tmp_path: Path) -> None:
    write(tmp_path, coco())
    cfg = config(tmp_path)
    for step in cfg.train_dataloader.dataset.pipeline:
        if 'with_mask' in step:
            step.with_mask = False
    ((kind, _),) = full(cfg)[0]
    assert kind.severity is Severity.ERROR and 'with_mask=True' in kind.remedy


@pytest.mark.parametrize(
    ('orientation', 'size', 'words'),
    [
        (6, (WIDTH, HEIGHT), 'turns by 90 degrees'),
        (6, (HEIGHT, WIDTH), ''),
        (3, (WIDTH, HEIGHT), 'turns or mirrors'),
        (1, (WIDTH, HEIGHT), ''),
    ],
)
def test_images_that_exif_turns(orientation: int, size: tuple[int, int], words: str, tmp_path: Path) -> None:
    data = coco()
    for image in data['images']:
        image.update(width=size[0], height=size[1])
    data['annotations'] = [
        {**annotation, 'bbox': [1, 1, 9, 9], 'segmentation': [[1, 1, 10, 1, 10, 10]]}
        for annotation in data['annotations'][::2]
    ]
    write(tmp_path, data)
    for path in (tmp_path / 'img').iterdir():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path, exif=exif)
    for tally in (full(config(tmp_path))[0], checker_of(config(tmp_path)).quick(math.inf)):
        assert [words in what and count == 3 for what, (_, count) in found(tally).items()] == [True] * bool(words)


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    write(tmp_path, coco())
    (tmp_path / 'img/1.jpg').write_text('no image')
    assert found(full(config(tmp_path))[0]) == {'images that cannot be decoded': (Severity.ERROR, 1)}


def test_an_evaluator_of_another_file(tmp_path: Path) -> None:
    write(tmp_path, coco())
    cfg = config(tmp_path)
    cfg.val_evaluator.ann_file = str(tmp_path / 'other.json')
    ((kind, _),) = full(cfg, 'val')[0]
    assert kind.severity is Severity.WARNING and 'evaluators that read another' in kind.what


def test_a_test_set_without_labels_is_a_warning(tmp_path: Path) -> None:
    data = coco()
    data.pop('annotations')
    write(tmp_path, data)
    ((kind, _),) = full(config(tmp_path), 'test')[0]
    assert kind.severity is Severity.WARNING and 'test sets without labels' in kind.what


def test_data_sets_inside_of_others(tmp_path: Path) -> None:
    write(tmp_path, coco())
    cfg = config(tmp_path)
    inner = cfg.train_dataloader.dataset
    bare = Config({'a': {**inner.to_dict(), 'ann_file': 'other.json'}}).a
    cfg.train_dataloader.dataset = {
        'type': 'RepeatDataset', 'times': 2, 'dataset': {'type': 'ConcatDataset', 'datasets': [inner, bare, inner]},
    }  # fmt: skip
    names = [Path(checker.name).name for checker in checkers_of(cfg, ['train'], Tally())]
    assert names == ['train.json', 'other.json']


def test_other_formats_are_checked_for_what_is_common(tmp_path: Path) -> None:
    (tmp_path / 'train.txt').write_text('a\n')
    cfg = Config(
        {
            'default_scope': 'mmdet',
            'train_dataloader': {
                'dataset': {
                    'type': 'VOCDataset', 'data_root': str(tmp_path), 'ann_file': 'train.txt', 'pipeline': [],
                    'data_prefix': {'sub_data_root': 'VOC2007/'},
                }
            },
        }
    )  # fmt: skip
    (checker,) = checkers_of(cfg, ['train'], Tally())
    ((kind, seen),) = checker.quick(math.inf)
    assert kind.severity is Severity.ERROR and 'cannot list' in kind.what and 'a.xml' in seen.places[0]


def test_a_data_set_that_cannot_be_built(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.colour = 'red'
    tally = Tally()
    assert not list(checkers_of(cfg, ['train'], tally))
    ((_, seen),) = tally
    assert "'colour'" in seen.places[0]


@pytest.mark.parametrize('seed', range(5))
def test_run_lengths_are_read_as_pycocotools_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 8)) < 0.4, np.ones((40, 70))) > 0
    text = compressed(mask)['counts']
    assert decode_counts(text).tolist() == run_lengths(mask)['counts']
    assert area_of(compressed(mask)) == area_of(run_lengths(mask)) == mask.sum()
    for spoilt in (text[:-1] + 'o', '', text + '\x01'):
        assert decode_counts(spoilt) is None


def test_area_of_polygons() -> None:
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    assert area_of([square]) == 100
    assert area_of([square, [0, 0, 4, 0, 0, 4]]) == 108
    assert area_of([]) is area_of(None) is area_of([[1, 1, 2, 2]]) is None
