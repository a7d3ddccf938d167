"""Captions in COCO's form and in tables: what is read, what is refused, and the way to a model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope

from mmvim.datasets.captions import Captions, CaptionTable, CocoCaptions, DrawCaption

IMAGES = [{'id': 7, 'file_name': 'a.jpg'}, {'id': 9, 'file_name': 'deep/b.jpg'}, {'id': 11, 'file_name': 'c.jpg'}]
TEXTS = [(7, 'a boat'), (9, ' two dogs\n'), (7, 'a ship')]
TABLE = 'image,caption\na.jpg,"a boat, sailing"\ndeep/b.jpg,two dogs\na.jpg,a ship\n'


def coco(folder: Path, texts: list = TEXTS, **others) -> CocoCaptions:
    entries = [{'id': 100 + i, 'image_id': image, 'caption': text} for i, (image, text) in enumerate(texts)]
    content = {'images': IMAGES, 'annotations': entries, **others}
    (folder / 'captions.json').write_text(json.dumps(content))
    return CocoCaptions(**place(folder, 'captions.json'))


def table(folder: Path, text: str = TABLE, **options) -> CaptionTable:
    (folder / 'captions.csv').write_bytes(text.encode() if isinstance(text, str) else text)
    return CaptionTable(**place(folder, 'captions.csv'), **options)


def place(folder: Path, file: str) -> dict:
    return {'data_root': str(folder), 'ann_file': file, 'data_prefix': {'img': 'images'}, 'pipeline': []}


def entries(dataset: Captions) -> list[tuple[str, list[str]]]:
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    return [(info['img_path'], info['captions']) for info in infos]


def test_captions_of_an_image_are_together(tmp_path: Path) -> None:
    images = tmp_path / 'images'
    expected = [(str(images / 'a.jpg'), ['a boat', 'a ship']), (str(images / 'deep/b.jpg'), ['two dogs'])]
    assert entries(coco(tmp_path)) == expected
    expected[0][1][0] = 'a boat, sailing'
    assert entries(table(tmp_path)) == expected
    others = {'image_column': 'file', 'caption_column': 'text', 'delimiter': '\t'}
    text = '\ufefftext\tfile\nrouge\ta.jpg\n'
    assert entries(table(tmp_path, text, **others)) == [(str(images / 'a.jpg'), ['rouge'])]


@pytest.mark.parametrize(
    ('texts', 'others', 'sentence'),
    [
        ([(7, 'a'), (9, ' \t')], {}, r'captions\.json, annotation 101: the caption of deep/b\.jpg is empty'),
        ([(7, None)], {}, 'annotation 100: the caption of a.jpg is empty'),
        ([(7, 'a'), (8, 'b')], {}, 'annotation 101: there is no image 8 among its images'),
        ([], {}, 'has no captions'),
        (TEXTS, {'annotations': [{'id': 1, 'image_id': 7, 'bbox': []}]}, r"no file of captions .*KeyError: 'caption'"),
        (TEXTS, {'images': 3}, 'no file of captions .*expected images with id and file_name'),
    ],
)
def test_files_of_coco_that_do_not_do(tmp_path: Path, texts: list, others: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        coco(tmp_path, texts, **others)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (TABLE + 'c.jpg,\n', r'captions\.csv, line 5: the caption of c\.jpg is empty'),
        (TABLE + 'c.jpg\n', r'line 5: the caption of c\.jpg is empty'),
        (TABLE + ',a bird\n', 'line 5: a caption without an image'),
        ('image;caption\na.jpg;a boat\n', 'has no column image and no column caption: its columns are image;caption'),
        ('', 'has no column image and no column caption'),
        ('image,caption\n', 'has no captions'),
        (b'image,caption\na.jpg,caf\xe9\n', 'is no CSV file in UTF-8'),
    ],
)
def test_tables_that_do_not_do(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        table(tmp_path, text)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('kind', [CocoCaptions, CaptionTable])
def test_a_missing_file(kind: type, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'there is no file .*nowhere\.json of captions'):
        kind(**place(tmp_path, 'nowhere.json'))


def test_no_json(tmp_path: Path) -> None:
    (tmp_path / 'captions.json').write_text('{"images": [')
    with pytest.raises(ValueError, match='is no file of captions'):
        CocoCaptions(**place(tmp_path, 'captions.json'))


def test_every_caption_is_drawn_as_often() -> None:
    np.random.seed(0)
    drawn = [DrawCaption()({'captions': ['a', 'b', 'c']})['captions'] for _ in range(300)]
    assert all(len(of_one) == 1 for of_one in drawn)
    assert all(70 < sum(of_one == [text] for of_one in drawn) < 130 for text in 'abc')


def test_the_way_of_a_pair(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.full((40, 60, 3), 90, np.uint8))
    init_default_scope('mmengine')
    steps = ['LoadImageFromFile', 'mmvim.DrawCaption', 'mmvim.PackCaptions']
    options = place(tmp_path, 'captions.json') | {'pipeline': [{'type': step} for step in steps]}
    pair = DATASETS.build({'type': 'mmvim.CocoCaptions', **options})[0]
    assert pair['inputs'].shape == (3, 40, 60) and pair['inputs'].dtype is torch.uint8
    assert pair['data_samples'].captions in (['a boat'], ['a ship'])
    assert pair['data_samples'].img_path == str(tmp_path / 'images/a.jpg')


def test_many_captions_take_little_memory(tmp_path: Path) -> None:
    """Entries are kept as bytes, as mmengine does, so that processes that load images share them."""
    dataset = coco(tmp_path, [(7 + 2 * (i % 3), f'caption {i}') for i in range(3000)])
    assert len(dataset) == 3 and len(dataset.get_data_info(2)['captions']) == 1000
    assert not dataset.data_list and dataset.data_bytes.nbytes < 60_000
