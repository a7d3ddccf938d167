"""The drawings: what is said to be on a picture is on it, and colour does not give it away."""

import numpy as np
import pytest

from mmvim.analysis.pixel_baseline import PixelClassifier
from mmvim.miniature.categories import SCENE_CLASSES
from mmvim.miniature.scenes import SILHOUETTES, TEXTURES, render_object, render_scene


def scenes(count: int, size: tuple[int, int] = (96, 96), seed: int = 0):
    return [render_scene(np.random.default_rng([seed, index]), *size) for index in range(count)]


@pytest.mark.parametrize('size', [(32, 32), (97, 131), (64, 200), (160, 48)])
def test_scene_of_any_size(size):
    for scene in scenes(5, size):
        assert scene.image.shape == (*size, 3)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        for instance in scene.instances:
            assert instance.mask.shape == size
            assert (scene.labels[instance.mask] == SCENE_CLASSES[instance.name].ade20k).all()


def test_too_small_a_scene_is_refused():
    with pytest.raises(ValueError, match='at least 32 pixels, got 31 x 64'):
        render_scene(np.random.default_rng(0), 31, 64)
    with pytest.raises(ValueError, match='at least 32 pixels'):
        render_object(np.random.default_rng(0), 'car', 64, 31)


def test_same_seed_same_scene():
    first, again, other = scenes(1)[0], scenes(1)[0], scenes(1, seed=1)[0]
    assert (first.image == again.image).all() and (first.labels == again.labels).all()
    assert (first.image != other.image).any()


def test_objects_stay_visible_and_do_not_share_pixels():
    for scene in scenes(40):
        owners = np.sum([instance.mask for instance in scene.instances] or [np.zeros((96, 96))], axis=0)
        assert owners.max() <= 1
        assert all(instance.mask.sum() >= 12 for instance in scene.instances)


def test_every_class_and_crowds_appear():
    many = scenes(100)
    seen = set(np.unique([scene.labels for scene in many]))
    assert seen == {ids.ade20k for ids in SCENE_CLASSES.values()}
    assert any(instance.crowd for scene in many for instance in scene.instances)
    assert {instance.name for scene in many for instance in scene.instances} == set(SILHOUETTES)
    assert set(TEXTURES) == set(SCENE_CLASSES) - {'other'}


def test_mean_colours_of_classes_coincide():
    many = scenes(300)
    pixels = np.concatenate([scene.image.reshape(-1, 3) for scene in many]).astype(float)
    labels = np.concatenate([scene.labels.ravel() for scene in many])
    means = np.array([pixels[labels == ids.ade20k].mean(axis=0) for name, ids in SCENE_CLASSES.items() if ids.ade20k])
    # Within a class colours spread about as far as over all pixels; between the means of classes there is little.
    spread = pixels.std(axis=0)
    assert (means.std(axis=0) < 0.06 * spread).all()
    assert (np.abs(means - means.mean(axis=0)) < 0.12 * spread).all()


@pytest.mark.parametrize('name', sorted(SILHOUETTES))
def test_single_object(name):
    scene = render_object(np.random.default_rng(1), name, 64, 80)
    (instance,) = scene.instances
    assert instance.name == name
    assert 0.05 < instance.mask.mean() < 0.7


def test_pixel_classifier_learns_colour_and_position():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 60, 3), dtype=np.uint8)
    labels = (images[..., 0] >= 128).astype(np.uint8)
    labels[:, 20:] += 2  # the lower half has classes of its own
    labels[:, :, :3] = 255
    model = PixelClassifier(4, colour_bins=4, position_bins=4).fit(zip(images[:5], labels[:5], strict=True))
    predicted, known = model.predict(images[5]), labels[5] != 255
    assert (predicted == labels[5])[known].mean() > 0.99


def test_pixel_classifier_knows_position_where_it_never_saw_the_colour():
    dark, light = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    labels = np.repeat([[0], [1]], 8, axis=0) * np.ones((1, 16), int)
    assert (PixelClassifier(2).fit([(dark, labels)]).predict(light) == labels).all()


def test_pixel_classifier_is_fitted_before_use():
    with pytest.raises(RuntimeError, match='before fit'):
        PixelClassifier(2).predict(np.zeros((4, 4, 3), np.uint8))
