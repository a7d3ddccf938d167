"""Landscapes from above: what is drawn is what is labelled, and nothing stands where it does not belong."""

import numpy as np
import pytest

from mmvim.miniature.above import render_from_above
from mmvim.miniature.categories import SCENE_CLASSES
from mmvim.miniature.layouts import LAYOUTS
from mmvim.miniature.scenes import Scene

AERIAL = ('loveda', 'potsdam', 'vaihingen', 'isaid')
NUMBERS = {name: ids.ade20k for name, ids in SCENE_CLASSES.items()}


@pytest.fixture(scope='module', params=[(64, 64), (128, 160)], ids=str)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [render_from_above(np.random.default_rng([0, index]), *request.param) for index in range(10)]


def test_the_same_seed_draws_the_same() -> None:
    one, same, other = (render_from_above(np.random.default_rng(seed), 64, 96) for seed in (3, 3, 4))
    assert one.image.shape == (64, 96, 3) and one.labels.shape == (64, 96)
    assert (one.image == same.image).all() and (one.labels == same.labels).all()
    assert (one.image != other.image).any() and (one.labels != other.labels).any()


@pytest.mark.parametrize('kind', AERIAL)
def test_every_class_of_a_benchmark_occurs(kind: str, scenes: list[Scene]) -> None:
    seen = set(np.unique(np.stack([scene.labels for scene in scenes])))
    assert {NUMBERS[name] for name in LAYOUTS[kind].values} <= seen
    assert 0 in seen, 'what has no name'
    assert not seen & {NUMBERS[name] for name in ('sky', 'person', 'dog')}


def test_objects_have_their_labels_and_their_grounds(scenes: list[Scene]) -> None:
    grounds = {'car': 'road', 'airplane': 'road', 'boat': 'water'}
    for scene in scenes:
        labelled = np.isin(scene.labels, [NUMBERS[name] for name in grounds])
        assert (labelled == np.any([labelled & False, *(one.mask for one in scene.instances)], axis=0)).all()
        for one in scene.instances:
            assert (scene.labels[one.mask] == NUMBERS[one.name]).all()
            # Every object lies on its ground, so somewhere beside it this is seen.
            around = np.zeros_like(one.mask)
            for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                around |= np.roll(one.mask, step, axis=(0, 1))
            assert NUMBERS[grounds[one.name]] in scene.labels[around & ~one.mask]


def test_the_picture_changes_where_the_label_does(scenes: list[Scene]) -> None:
    """Colours differ more across the border of an object than within it and within its ground, over all of them."""
    across, within = [], []
    for scene in scenes:
        step = np.abs(np.diff(scene.image.astype(float), axis=1)).mean(axis=2)
        border = np.diff(scene.labels.astype(int), axis=1) != 0
        across.extend(step[border])
        within.extend(step[~border])
    assert np.mean(across) > 1.3 * np.mean(within)


def test_a_picture_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match='at least 32 pixels'):
        render_from_above(np.random.default_rng(0), 31, 64)
    assert render_from_above(np.random.default_rng(0), 32, 32).image.shape == (32, 32, 3)
