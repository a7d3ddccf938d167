"""The files: OpenMMLab's data set classes and pycocotools read them, and they agree with each other."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmvim.miniature import data_sets as miniature
from mmvim.miniature.categories import COCO_CATEGORIES, SCENE_CLASSES
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.masks import polygons, run_lengths
from mmvim.miniature.scenes import render_scene

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools/make_miniature.py'
SMALL = {'train': 6, 'val': 3, 'size': (97, 131), 'progress': False}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def ade20k(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('ade') / 'made'
    ensure_miniature('ade20k', out, **SMALL)
    return out


@pytest.fixture(scope='module')
def coco(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('coco') / 'made'
    ensure_miniature('coco', out, **{**SMALL, 'train': 40})
    return out


# ---------------------------------------------------------------------------------------------- ADE20K


def test_mmseg_reads_ade20k(ade20k):
    from mmseg.datasets import ADE20KDataset
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    root = ade20k / 'ADEChallengeData2016'
    for folder, split, count in (('training', 'train', 6), ('validation', 'val', 3)):
        dataset = ADE20KDataset(
            data_root=str(root),
            data_prefix={'img_path': f'images/{folder}', 'seg_map_path': f'annotations/{folder}'},
            pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}],
        )
        assert len(dataset) == count
        for index in range(count):
            sample = dataset[index]
            drawn = render_scene(np.random.default_rng([0, split == 'val', index]), 97, 131)
            assert sample['img'].shape == (97, 131, 3)
            # JPEG is not exact, but it is this picture, in BGR.
            assert np.abs(sample['img'][..., ::-1].astype(int) - drawn.image).mean() < 12
            expected = drawn.labels.astype(int) - 1
            expected[expected < 0] = 255  # reduce_zero_label
            assert (sample['gt_seg_map'] == expected).all()


def test_label_ids_are_those_of_ade20k():
    from mmseg.datasets import ADE20KDataset

    names = ADE20KDataset.METAINFO['classes']
    for name, ids in SCENE_CLASSES.items():
        if ids.ade20k:
            assert names[ids.ade20k - 1] == {'dog': 'animal'}.get(name, name)


def test_label_maps_are_plain_grey_png(ade20k):
    for path in ade20k.rglob('*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8 and labels.shape == (97, 131)


# ------------------------------------------------------------------------------------------------ COCO


def test_coco_annotations_agree_with_the_scenes(coco):
    # pycocotools is the judge: its own reading of polygons and run lengths.
    seen_crowd = False
    for split in ('train', 'val'):
        api = COCO(str(coco / f'annotations/instances_{split}2017.json'))
        for index, image in enumerate(api.loadImgs(sorted(api.getImgIds()))):
            assert (coco / f'{split}2017' / image['file_name']).is_file()
            assert image['file_name'] == f'{image["id"]:012d}.jpg'
            drawn = render_scene(np.random.default_rng([0, split == 'val', index]), 97, 131)
            annotations = api.loadAnns(api.getAnnIds(imgIds=image['id']))
            assert len(annotations) == len(drawn.instances)
            for annotation, instance in zip(annotations, drawn.instances, strict=True):
                rows, columns = np.nonzero(instance.mask)
                assert (api.annToMask(annotation) == instance.mask).all()
                assert annotation['area'] == instance.mask.sum()
                x, y, w, h = annotation['bbox']
                assert (x, y, x + w - 1, y + h - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
                assert annotation['category_id'] == SCENE_CLASSES[instance.name].coco
                assert annotation['iscrowd'] == instance.crowd
                assert isinstance(annotation['segmentation'], dict if instance.crowd else list)
                seen_crowd |= instance.crowd
    assert seen_crowd


def test_mmdet_reads_coco(coco):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    dataset = CocoDataset(
        data_root=str(coco),
        ann_file='annotations/instances_train2017.json',
        data_prefix={'img': 'train2017/'},
        pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}],
    )
    assert len(dataset) == 40
    for index in range(40):
        sample = dataset[index]
        boxes, masks = sample['gt_bboxes'].tensor.numpy(), sample['gt_masks'].masks
        drawn = render_scene(np.random.default_rng([0, 0, index]), 97, 131)
        names = [dataset.metainfo['classes'][label] for label in sample['gt_bboxes_labels']]
        assert names == [instance.name for instance in drawn.instances]
        assert sample['gt_ignore_flags'].tolist() == [instance.crowd for instance in drawn.instances]
        for (x0, y0, x1, y1), mask in zip(boxes.astype(int), masks, strict=True):
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0


def test_categories_are_those_of_coco():
    from mmdet.datasets import CocoDataset

    assert tuple(category['name'] for category in COCO_CATEGORIES) == CocoDataset.METAINFO['classes']
    # The gaps in COCO's ids: categories that were announced and never annotated.
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [category['id'] for category in COCO_CATEGORIES] == [i for i in range(1, 91) if i not in gaps]
    by_name = {category['name']: category['id'] for category in COCO_CATEGORIES}
    assert all(by_name[name] == ids.coco for name, ids in SCENE_CLASSES.items() if ids.coco)


def test_ids_are_unique_over_the_splits(coco):
    images = [
        image['id']
        for split in ('train', 'val')
        for image in json.loads((coco / f'annotations/instances_{split}2017.json').read_text())['images']
    ]
    assert len(set(images)) == len(images) == 43


@pytest.mark.parametrize('seed', range(40))
def test_polygons_and_run_lengths_give_any_mask_back(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    mask = rng.random((height, width), dtype=np.float32)
    if seed % 2:  # blobs with holes; without, single pixels that touch at corners
        mask = cv2.GaussianBlur(mask, (0, 0), 2)
    mask = mask > np.quantile(mask, rng.random())
    if not mask.any():
        assert polygons(mask) == []
        return
    outlines = coco_mask.merge(coco_mask.frPyObjects(polygons(mask), height, width))
    assert (coco_mask.decode(outlines) == mask).all()
    assert (coco_mask.decode(coco_mask.frPyObjects(run_lengths(mask), height, width)) == mask).all()


# -------------------------------------------------------------------------------------------- ImageNet


def test_imagenet_folders(tmp_path):
    assert ensure_miniature('imagenet', tmp_path / 'made', train=10, val=5, size=(64, 48), progress=False)
    for split, count in (('train', 2), ('val', 1)):
        folders = sorted((tmp_path / 'made/imagenet' / split).iterdir())
        assert [folder.name for folder in folders] == sorted(
            ids.wordnet for ids in SCENE_CLASSES.values() if ids.wordnet
        )
        for folder in folders:
            images = list(folder.glob('*.JPEG'))
            assert len(images) == count
            assert cv2.imread(str(images[0])).shape == (64, 48, 3)


def test_unlabelled_scenes_are_those_of_ade20k(ade20k, tmp_path):
    assert ensure_miniature('unlabelled', tmp_path / 'made', **SMALL)
    for split, folder, count in (('train', 'training', 6), ('val', 'validation', 3)):
        found = [path.read_bytes() for path in sorted((tmp_path / 'made' / split).iterdir())]
        images = ade20k / 'ADEChallengeData2016/images' / folder
        assert found == [path.read_bytes() for path in sorted(images.iterdir())] and len(found) == count


# ----------------------------------------------------------------------------- what is kept, and refused


@pytest.mark.parametrize('kind', miniature.KINDS)
def test_same_seed_same_bytes(tmp_path, kind):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        ensure_miniature(kind, tmp_path / name, train=5, val=5, size=(40, 40), seed=seed, progress=False)
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')
    assert contents(tmp_path / 'a') != contents(tmp_path / 'c')


def test_more_images_leave_the_first_ones_as_they_are(tmp_path):
    for name, train in (('few', 3), ('more', 5)):
        ensure_miniature('ade20k', tmp_path / name, train=train, val=1, size=(40, 40), progress=False)
    few, more = contents(tmp_path / 'few'), contents(tmp_path / 'more')
    pictures = [name for name in few if name != miniature.MARKER]
    assert {name: few[name] for name in pictures} == {name: more[name] for name in pictures}
    assert len(more) == len(few) + 4


def test_a_finished_data_set_is_kept(ade20k):
    before = {path: path.stat().st_mtime_ns for path in ade20k.rglob('*')}
    assert not ensure_miniature('ade20k', ade20k, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in ade20k.rglob('*')} == before


def test_other_settings_are_refused_or_replace(tmp_path):
    out = tmp_path / 'made'
    small = {'val': 1, 'size': (40, 40), 'progress': False}
    ensure_miniature('ade20k', out, train=2, **small)
    with pytest.raises(FileExistsError, match=r'holds .*train=2, asked for was train=3; add --overwrite'):
        ensure_miniature('ade20k', out, train=3, **small)
    assert len(list(out.rglob('*.jpg'))) == 3
    assert ensure_miniature('ade20k', out, train=3, overwrite=True, **small)
    assert len(list(out.rglob('*.jpg'))) == 4
    assert os.listdir(tmp_path) == ['made']


def test_other_files_are_never_touched(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='is no miniature data set; name another folder with --out'):
        ensure_miniature('coco', tmp_path, overwrite=True, **SMALL)
    with pytest.raises(FileExistsError, match='is no miniature data set'):
        ensure_miniature('coco', tmp_path / 'mine.txt', overwrite=True, **SMALL)
    assert contents(tmp_path) == {'mine.txt': b'mine'}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'voc'}, "unknown kind of data set 'voc', choose one of ade20k, coco, captions, lvis, imagenet"),
        ({'train': 0}, 'at least one image in each split, got 0 and 3'),
        ({'size': (16, 97)}, 'at least 32 pixels, got 16 x 97'),
        ({'seed': -1}, 'from 0 upwards, got -1'),
    ],
)
def test_bad_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        ensure_miniature(**{'kind': 'ade20k', 'out': tmp_path / 'made', **SMALL, **changes})
    assert os.listdir(tmp_path) == []


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(path, image):
        if path.suffix == '.png':
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(miniature, '_write_image', full_disk)
    with pytest.raises(OSError, match='No space left'):
        ensure_miniature('ade20k', tmp_path / 'made', **SMALL)
    assert os.listdir(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path):
    command = [sys.executable, TOOL, 'ade20k', '--out', tmp_path / 'made', '--train', '100000']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob('*.png')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.strip().endswith('interrupted, nothing was written')
    assert 'Traceback' not in errors
    assert os.listdir(tmp_path) == []


def test_command_line(tmp_path, monkeypatch, capsys):
    def run(*more: str) -> str:
        arguments = ['coco', '--out', f'{tmp_path}/made', '--train', '2', '--val', '1', '--size', '40x56', *more]
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out.splitlines()[-1]

    assert run().endswith('made: 2 training and 1 validation images of 40 x 56, drawn now')
    assert run().endswith('there already')
    with pytest.raises(SystemExit) as stop:
        run('--seed', '3')
    assert stop.value.code.startswith('error: ') and 'add --overwrite' in stop.value.code
    assert run('--seed', '3', '--overwrite').endswith('drawn now')
