"""Label maps: each fault is found with its file, and good ones give no finding."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.datasets import LoadAnnotations
from mmseg.utils import register_all_modules
from PIL import Image

from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight.data.label_maps import LabelStatistics, build, check_label_maps
from mmvim.preflight.data.tally import Severity, Tally

REPOSITORY = Path(__file__).parents[3]
CLASSES = ('sky', 'ground', 'thing')
PALETTE = [[6, 230, 230], [140, 140, 140], [150, 5, 61]]
PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]


def label_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (24, 32), dtype=np.uint8)


@pytest.fixture
def place(tmp_path) -> Path:
    """Four images and label maps of three classes, all well."""
    register_all_modules(init_default_scope=False)
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for number in range(4):
        picture = np.random.default_rng(9 + number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f'images/a{number}.jpg')
        write(tmp_path, number, label_of(number))
    return tmp_path


def write(place: Path, number: int, label: np.ndarray, **kwargs) -> None:
    Image.fromarray(label).save(place / f'masks/a{number}.png', **kwargs)


def write_all(place: Path, change) -> None:
    for number in range(4):
        write(place, number, change(label_of(number)))


def heads(num_classes: int = 3, **others) -> dict:
    return {'decode_head': {'type': 'FCNHead', 'num_classes': num_classes, **others}}


def check(place: Path, model: dict | None = None, stage: str = 'train', images=None, **dataset):
    """Findings as ``{what: Seen}``, kinds as ``{what: Kind}``, and statistics."""
    cfg = {
        'type': 'BaseSegDataset',
        'data_root': str(place),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'masks'},
        'metainfo': {'classes': CLASSES, 'palette': PALETTE},
        'pipeline': PIPELINE,
        **dataset,
    }
    tally = Tally()
    with DefaultScope.overwrite_default_scope('mmseg'):
        statistics = check_label_maps(
            build(cfg), heads() if model is None else model, tally, stage, images, processes=1
        )
    return {kind.what: seen for kind, seen in tally}, {kind.what: kind for kind, _ in tally}, statistics


def only(place: Path, what: str, severity: Severity, count: int = 1, **arguments):
    """The one finding there is, its first place and its remedy."""
    seen, kinds, _ = check(place, **arguments)
    assert len(seen) == 1, seen
    (name,) = seen
    assert what in name, name
    assert kinds[name].severity is severity
    assert seen[name].count == count
    return seen[name].places[0], kinds[name].remedy


def test_good_label_maps_give_no_finding(place):
    seen, _, statistics = check(place)
    assert seen == {}
    assert isinstance(statistics, LabelStatistics)
    assert (statistics.files, statistics.read, statistics.total, statistics.ignored) == (4, 4, 4 * 24 * 32, 0)
    expected = sum(np.bincount(label_of(number).ravel(), minlength=3) for number in range(4))
    assert statistics.pixels.tolist() == expected.tolist()
    assert statistics.sizes == {(32, 24): 4}


@pytest.mark.parametrize('mode', ['palette', 'sixteen bits', 'uncared pixels'])
def test_other_good_forms_give_no_finding(place, mode):
    def change(label):
        if mode == 'sixteen bits':
            return label.astype(np.uint16)
        return np.where(label == 2, 255, label) if mode == 'uncared pixels' else label

    write_all(place, change)
    if mode == 'uncared pixels':
        write(place, 0, label_of(0))
    if mode == 'palette':
        for number in range(4):
            image = Image.fromarray(label_of(number))
            image.putpalette(sum(PALETTE, []))
            image.save(place / f'masks/a{number}.png')
            assert Image.open(place / f'masks/a{number}.png').mode == 'P'
    assert check(place)[0] == {}


def test_one_bit_masks_are_two_classes(place):
    for number in range(4):
        Image.fromarray(label_of(number) > 0).save(place / f'masks/a{number}.png')
    metainfo = {'classes': ('no', 'yes'), 'palette': PALETTE[:2]}
    assert check(place, heads(2), metainfo=metainfo)[0] == {}
    cv2_pipeline = [PIPELINE[0], {'type': 'LoadAnnotations', 'imdecode_backend': 'cv2'}]
    only(place, 'masks of 0 and 255', Severity.ERROR, 4, model=heads(2), metainfo=metainfo, pipeline=cv2_pipeline)


def test_palette_images_become_colours_through_opencv(place):
    image = Image.fromarray(label_of(0))
    image.putpalette(sum(PALETTE, []))
    image.save(place / 'masks/a0.png')
    pipeline = [PIPELINE[0], {'type': 'LoadAnnotations', 'imdecode_backend': 'cv2'}]
    found, remedy = only(place, 'in colours', Severity.ERROR, pipeline=pipeline)
    assert 'a0.png' in found and "imdecode_backend of LoadAnnotations at 'pillow'" in remedy


def test_value_of_no_class(place):
    label = label_of(1)
    label[4:8] = 9
    write(place, 1, label)
    found, remedy = only(place, 'values of no class', Severity.ERROR)
    assert f'{place}/masks/a1.png: 9 (128 pixels)' in found
    assert 'with reduce_zero_label=True 9 would be 8' in found
    assert 'expected 0 to 2' in remedy and 'Then set' not in remedy


def test_values_counted_from_one(place):
    write_all(place, lambda label: label + 1)
    found, remedy = only(place, 'values of no class', Severity.ERROR, 4)
    assert '3 (' in found and '3 would be 2' in found
    assert 'set reduce_zero_label=True' in remedy
    assert check(place, reduce_zero_label=True)[0] == {}


def test_values_counted_from_zero_and_reduced(place):
    _, remedy = only(place, 'values from 0 on', Severity.WARNING, reduce_zero_label=True, images=4)
    assert 'reduce_zero_label=False' in remedy


def test_colours_of_the_palette_and_the_command_that_converts_them(place):
    colours = np.array(PALETTE, dtype=np.uint8)
    write_all(place, lambda label: colours[label])
    found, remedy = only(place, 'in colours', Severity.ERROR, 4)
    assert 'a0.png (3 channels)' in found and '--palette CONFIG' in remedy
    config = place / 'config.py'
    config.write_text(f'train_dataloader = dict(dataset=dict(metainfo=dict(palette={PALETTE})))')
    command = remedy.partition('python ')[2].partition(' writes')[0].replace('CONFIG', str(config))
    subprocess.run([sys.executable, *command.split()], check=True, cwd=REPOSITORY)
    prefix = {'img_path': 'images', 'seg_map_path': 'masks_numbers'}
    assert check(place, data_prefix=prefix)[0] == {}
    for number in range(4):
        assert (np.array(Image.open(place / f'masks_numbers/a{number}.png')) == label_of(number)).all()


def test_grey_in_three_channels(place):
    write_all(place, lambda label: np.dstack([label] * 3))
    _, remedy = only(place, 'in colours', Severity.ERROR, 4)
    assert '--grey' in remedy


def test_colours_of_no_palette(place):
    colours = np.array([[1, 2, 3], *PALETTE[1:]], dtype=np.uint8)
    write_all(place, lambda label: colours[label])
    found, _ = only(place, 'in colours', Severity.ERROR, 4)
    assert 'not in metainfo.palette: (1, 2, 3)' in found


def test_size(place):
    write(place, 2, label_of(2)[:20])
    found, _ = only(place, 'another size', Severity.ERROR)
    assert found == f'{place}/masks/a2.png: 32 x 20, its image 32 x 24'


def test_all_ignored(place):
    write(place, 3, np.full((24, 32), 255, dtype=np.uint8))
    found, _ = only(place, 'all left out', Severity.WARNING)
    assert found.endswith('a3.png')
    write_all(place, lambda label: np.full_like(label, 255))
    only(place, 'all left out, in every file', Severity.ERROR, 4)


def test_sixteen_bits_above_255(place):
    label = label_of(0).astype(np.uint16)
    label[0, 0] = 300
    write(place, 0, label)
    found, _ = only(place, 'above 255', Severity.ERROR)
    assert found.endswith('a0.png: values 0 to 300')
    load = LoadAnnotations()
    read = load({'seg_map_path': str(place / 'masks/a0.png'), 'reduce_zero_label': False, 'seg_fields': []})
    assert read['gt_seg_map'][0, 0] == 300 % 256  # why it is an error


def test_fractions(place):
    Image.fromarray(label_of(0).astype(np.float32) / 2).save(place / 'masks/a0.tif')
    (place / 'masks/a0.png').unlink()
    (place / 'masks/a0.tif').rename(place / 'masks/a0.png')
    only(place, 'whole numbers', Severity.ERROR)


def test_masks_of_0_and_255(place):
    write_all(place, lambda label: np.where(label > 0, 255, 0).astype(np.uint8))
    metainfo = {'classes': ('no', 'yes'), 'palette': PALETTE[:2]}
    _, remedy = only(place, 'masks of 0 and 255', Severity.ERROR, 4, model=heads(2), metainfo=metainfo)
    command = remedy.partition('python ')[2].partition(', and')[0]
    assert 'do not care' in remedy
    subprocess.run([sys.executable, *command.split()], check=True, cwd=REPOSITORY)
    prefix = {'img_path': 'images', 'seg_map_path': 'masks_1'}
    assert check(place, heads(2), metainfo=metainfo, data_prefix=prefix)[0] == {}


@pytest.mark.parametrize(('orientation', 'severity'), [(6, Severity.ERROR), (3, Severity.WARNING)])
def test_exif(place, orientation, severity):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(place / 'images/a1.jpg')
    image.load()
    image.save(place / 'images/a1.jpg', exif=exif)
    found, _ = only(place, 'EXIF', severity)
    assert 'a1.' in found
    if orientation == 6:  # a label map that is turned as well fits
        write(place, 1, np.ascontiguousarray(np.rot90(label_of(1), -1)))
        assert check(place)[0] == {}
        assert cv2.imread(str(place / 'images/a1.jpg')).shape[:2] == (32, 24)


def test_missing(place):
    (place / 'masks/a1.png').unlink()
    found, _ = only(place, 'label maps that are missing', Severity.ERROR)
    assert found == f'{place}/masks/a1.png'
    (place / 'list.txt').write_text('a0\na2\nb0\n')
    found, _ = only(place, 'images that are missing', Severity.ERROR, ann_file='list.txt', model={})


def test_suffix_and_case(place):
    (place / 'masks/a1.png').rename(place / 'masks/A1.png')
    found, _ = only(place, 'differ in case', Severity.ERROR)
    assert 'A1.png' in found
    (place / 'masks/A1.png').rename(place / 'masks/a1_labels.png')
    write_all(place, lambda label: label)
    for number in range(4):
        (place / f'masks/a{number}.png').rename(place / f'masks/a{number}.bmp')
    _, remedy = only(place, 'another suffix', Severity.ERROR, 4)
    assert "seg_map_suffix='.bmp'" in remedy


def test_suffix_of_images(place):
    found, remedy = only(place, 'folders without .tif', Severity.ERROR, img_suffix='.tif')
    assert '4 .jpg' in found and "img_suffix='.jpg'" in remedy
    Image.open(place / 'images/a0.jpg').save(place / 'images/b0.jpeg')
    found, _ = only(place, 'left out because', Severity.WARNING)
    assert '1 .jpeg' in found


def test_empty_and_absent_folders(place):
    (place / 'empty').mkdir()
    only(place, 'empty folders', Severity.ERROR, data_prefix={'img_path': 'empty', 'seg_map_path': 'masks'})
    seen, _, _ = check(place, data_prefix={'img_path': 'nowhere', 'seg_map_path': 'masks'})
    assert any('cannot list' in what or 'do not exist' in what for what in seen)


def test_undecodable(place):
    (place / 'images/a0.jpg').write_text('no image')
    only(place, 'cannot be decoded', Severity.ERROR)
    whole = (place / 'images/a1.jpg').read_bytes()
    Image.open(place / 'images/a1.jpg').save(place / 'images/a0.jpg')
    (place / 'images/a1.jpg').write_bytes(whole[: len(whole) * 2 // 3])
    only(place, 'end too early', Severity.WARNING)
    (place / 'images/a1.jpg').write_bytes(whole)
    (place / 'masks/a2.png').write_bytes(b'')
    found, _ = only(place, 'cannot be decoded', Severity.ERROR)
    assert 'masks/a2.png' in found


def test_class_without_pixels_is_only_told_by_the_whole_check(place):
    write_all(place, lambda label: np.minimum(label, 1))
    found, _ = only(place, 'no pixel', Severity.WARNING)
    assert found == '2 thing'
    assert check(place, images=2)[0] == {}


def test_no_labels(place):
    prefix = {'img_path': 'images'}
    only(place, 'without label maps', Severity.ERROR, 4, data_prefix=prefix)
    only(place, 'without labels', Severity.WARNING, 4, data_prefix=prefix, stage='test')


def test_a_sample_is_spread_over_all_files_and_all_must_be_there(place):
    assert check(place, images=2)[2].read == 2
    (place / 'masks/a1.png').unlink()
    only(place, 'label maps that are missing', Severity.ERROR, images=1)


def test_num_classes(place):
    found, remedy = only(place, 'smaller', Severity.ERROR, model=heads(2), images=0)
    assert '3 classes, model.decode_head.num_classes=2' in found
    assert 'decode_head=dict(num_classes=3)' in remedy
    only(place, 'larger', Severity.WARNING, model=heads(4))


def test_binary_heads(place):
    metainfo = {'classes': ('no', 'yes'), 'palette': PALETTE[:2]}
    write_all(place, lambda label: np.minimum(label, 1))
    sigmoid = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
    softmax = {'type': 'CrossEntropyLoss', 'use_sigmoid': False}
    assert check(place, heads(2, out_channels=1, loss_decode=sigmoid), metainfo=metainfo)[0] == {}
    wrong = heads(2, out_channels=1, loss_decode=softmax)
    only(place, 'learns nothing', Severity.ERROR, model=wrong, metainfo=metainfo)
    only(place, 'neither num_classes nor 1', Severity.ERROR, model=heads(2, out_channels=3), metainfo=metainfo)


def test_heads_whose_numbers_mean_something_else(place):
    queries = heads(3, num_queries=100, out_channels=256)
    edges = {**heads(), 'auxiliary_head': [{'type': 'STDCHead', 'num_classes': 2}]}
    assert check(place, queries)[0] == {} and check(place, edges)[0] == {}


@pytest.mark.parametrize('stage', ['training', 'validation'])
def test_the_miniature_ade20k_gives_no_finding(tmp_path, stage):
    register_all_modules(init_default_scope=False)
    ensure_miniature('ade20k', tmp_path, train=4, val=4, size=(64, 64), progress=False)
    root = tmp_path / 'ADEChallengeData2016'
    prefix = {'img_path': f'images/{stage}', 'seg_map_path': f'annotations/{stage}'}
    tally = Tally()
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = build({'type': 'ADE20KDataset', 'data_root': str(root), 'data_prefix': prefix, 'pipeline': PIPELINE})
        check_label_maps(dataset, heads(150), tally, 'train')
    assert list(tally) == []
