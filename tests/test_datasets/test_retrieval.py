"""Retrieval against numbers that were worked out by hand."""

import math

import pytest
import torch
from mmengine.registry import METRICS

from mmvim.datasets import retrieval
from mmvim.datasets.retrieval import Retrieval


def direction(degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    return torch.tensor([math.cos(angle), math.sin(angle)])


def measure(images: list[float], texts: list[list[float]], **options) -> dict[str, float]:
    """R@k of images and their captions, all on a circle, in degrees."""
    metric = Retrieval(**options)
    samples = [
        {'img_path': 'x', 'image_embedding': direction(image), 'text_embeddings': torch.stack([*map(direction, of)])}
        for image, of in zip(images, texts, strict=True)
    ]
    metric.process({}, samples[:2])
    metric.process({}, samples[2:])
    return metric.evaluate(len(images))


def test_worked_out_by_hand() -> None:
    # Image 0 has captions at 1 and 50, image 1 at 12, image 2 at 95 and 200.
    found = measure([0, 10, 90], [[1, 50], [12], [95, 200]], topk=(1, 2))
    # Images: 0 finds 1 first; 1 finds 12 (2 away) before 1 (9 away); 2 finds 95 first.
    assert found['retrieval/image_to_text_R@1'] == 100
    # Captions: 1 -> 0; 50 is 40 from image 1, 40 from 2 and 50 from its own, the third; 12 -> 1; 95 -> 2; 200 is 110
    # from image 2, and 160 from 0.
    assert found['retrieval/text_to_image_R@1'] == pytest.approx(80)
    assert found['retrieval/text_to_image_R@2'] == pytest.approx(80)


def test_one_of_several_captions_is_enough_and_the_others_do_not_stand_in_its_way() -> None:
    # The best caption of image 0 is 20 away, behind that of image 1 (15 away): second, whatever its worse ones are.
    found = measure([0, 40], [[20, 25, -30], [-15]], topk=(1, 2))
    assert found['retrieval/image_to_text_R@1'] == 0
    # Image 1 is 55 from its own; 20, 25 and -30 are 20, 15 and 70 away: third.
    assert found['retrieval/image_to_text_R@2'] == 50


def test_equal_vectors_find_nothing() -> None:
    found = measure([0] * 6, [[0]] * 6)
    assert {found[f'retrieval/{way}_R@{k}'] for way in ('image_to_text', 'text_to_image') for k in (1, 5)} == {0}


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = (360 * torch.rand(20)).tolist()
    texts = [[image + 60 * torch.randn(()).item() for _ in range(3)] for image in images]
    whole = measure(images, texts)
    monkeypatch.setattr(retrieval, 'ROWS', 7)
    assert measure(images, texts) == whole
    assert 0 < whole['retrieval/text_to_image_R@1'] < whole['retrieval/text_to_image_R@5'] < 100


def test_what_cannot_be_measured() -> None:
    assert METRICS.build({'type': 'mmvim.Retrieval'}).topk == (1, 5)
    metric, fine = Retrieval(), direction(0)
    with pytest.raises(ValueError, match=r'a\.jpg has no captions'):
        metric.process({}, [{'img_path': 'a.jpg', 'image_embedding': fine}])
    with pytest.raises(ValueError, match=r'vectors of a\.jpg or of its captions are not finite'):
        bad = {'img_path': 'a.jpg', 'image_embedding': fine, 'text_embeddings': fine[None] / 0}
        metric.process({}, [bad])
