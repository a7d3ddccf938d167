"""Captions of drawn scenes: they say what is there, and nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from mmvim.miniature.captions import describe
from mmvim.miniature.categories import SCENE_CLASSES
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.scenes import Instance, Scene, render_scene

WORDS = {
    'person': 'person|people|pedestrians?|walkers?', 'car': 'cars?|automobiles?|vehicles?',
    'dog': 'dogs?|hounds?|puppy|puppies', 'boat': 'boats?|yachts?', 'airplane': 'airplanes?|planes?|jets?',
    'road': 'road|street', 'grass': 'grass|meadow', 'water': 'water|lake',
    'mountain': 'mountains|hills', 'building': 'buildings|houses', 'tree': 'trees',
}  # fmt: skip


def scene() -> Scene:
    """A wide sky above grass, two dogs on the left, a car at the right, a crowd in the middle."""
    labels = np.full((90, 90), SCENE_CLASSES['sky'].ade20k, np.uint8)
    labels[40:] = SCENE_CLASSES['grass'].ade20k
    labels[40:42, :10] = SCENE_CLASSES['water'].ade20k  # too little to be spoken of
    things = []
    for name, left, crowd in (('dog', 2, False), ('car', 70, False), ('dog', 14, False), ('person', 40, True)):
        mask = np.zeros((90, 90), bool)
        mask[50:60, left : left + 10] = True
        labels[mask] = SCENE_CLASSES[name].ade20k
        things.append(Instance(name, mask, crowd))
    return Scene(np.zeros((90, 90, 3), np.uint8), labels, things)


def test_what_is_said_of_a_scene() -> None:
    said = describe(scene(), np.random.default_rng(0))
    assert len(set(said)) == 5
    dogs, crowd, car = (
        '(two dogs|two hounds|two puppies) (on|at) the left',
        'a (crowd|group|row) of people (in the|near the) (middle|centre)',
        '(a car|an automobile|a vehicle) (on|at) the right',
    )
    for caption in said:
        assert re.search(f'{dogs}.*, {crowd}.* and {car}', caption), caption
        assert re.search(r'\b(grass|a meadow)\b', caption) and 'a wide sky' in caption and 'nothing' in caption
        assert not re.search(r'water|lake|mountain|hills|houses|buildings|trees|boat|plane', caption)


@pytest.mark.parametrize('seed', range(8))
def test_the_classes_that_are_named_are_those_that_are_seen(seed: int) -> None:
    drawn = render_scene(np.random.default_rng(seed), 128, 128)
    for caption in describe(drawn, np.random.default_rng(seed)):
        for name, words in WORDS.items():
            share = float((drawn.labels == SCENE_CLASSES[name].ade20k).mean())
            things = [thing for thing in drawn.instances if thing.name == name]
            seen = any(thing.mask.mean() > 0.005 for thing in things) if name in list(WORDS)[:5] else share > 0.01
            assert bool(re.search(rf'\b({words})\b', caption)) == seen, (name, caption)


def test_coco_reads_them_and_the_scenes_are_those_of_its_boxes(tmp_path: Path) -> None:
    for kind in ('captions', 'coco'):
        ensure_miniature(kind, tmp_path / kind, train=6, val=3, size=(64, 80), progress=False)
    for split, count in (('train', 6), ('val', 3)):
        api = COCO(str(tmp_path / f'captions/annotations/captions_{split}2017.json'))
        assert len(api.imgs) == count and len(api.anns) == 5 * count
        assert all(len({api.anns[number]['caption'] for number in api.getAnnIds(image)}) == 5 for image in api.imgs)
        pictures = sorted(path.name for path in (tmp_path / f'captions/{split}2017').iterdir())
        assert pictures == sorted(image['file_name'] for image in api.imgs.values())
        for name in pictures:
            ours, theirs = (tmp_path / kind / f'{split}2017' / name for kind in ('captions', 'coco'))
            assert ours.read_bytes() == theirs.read_bytes()


def test_scenes_are_told_apart_by_their_captions(tmp_path: Path) -> None:
    """Without words that mean the same, hardly two of a hundred scenes are described alike."""
    ensure_miniature('captions', tmp_path / 'made', train=1, val=100, size=(64, 64), progress=False)
    content = json.loads((tmp_path / 'made/annotations/captions_val2017.json').read_text())
    told = {}
    for entry in content['annotations']:
        if entry['caption'].startswith('a picture of'):
            caption = entry['caption']
            for name, words in WORDS.items():
                caption = re.sub(rf'\ban? ({words})\b|\b({words})\b', name, caption)
            caption = re.sub('in the middle|in the centre|near the middle', 'middle', caption)
            told[entry['image_id']] = re.sub('(on|at) the (left|right)( side)?', r'\2', caption)
    assert len(told) == 100 and len(set(told.values())) > 95
