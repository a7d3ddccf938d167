"""Sliding windows: the numbers of mmseg's own slide inference, by rows and in bounded memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample
from torch import nn

from mmvim.inference import slide
from mmvim.inference.grid import Grid, Size, count_windows, window_of
from mmvim.inference.rows import ArrayRows, Rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def model() -> nn.Module:
    """A segmentor of the size of nothing, in eval mode."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'upernet_vim_t_miniature.py').model
    cfg.backbone.arch = {'embed_dims': 16, 'depth': 4, 'patch_size': 16, 'patch_stride': 16}
    cfg.backbone.out_indices = (0, 1, 2, 3)
    cfg.neck.update(in_channels=16, norm_cfg={'type': 'BN'})
    cfg.decode_head.update(in_channels=[16] * 4, channels=16, norm_cfg={'type': 'BN'})
    cfg.auxiliary_head = None
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(cfg).eval()


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    """Noise of several scales, RGB: its labels change all over."""
    generator = np.random.default_rng(0)
    sizes = (4, 16, 64)
    layers = [np.kron(generator.random((256 // s, 256 // s, 3)), np.ones((s, s, 1))) for s in sizes]
    return (np.mean(layers, axis=0) * 255).astype(np.uint8)


def labels_of(model: nn.Module, rows: Rows, window: Size, stride: Size, **more: Any) -> np.ndarray:
    """The whole label map."""
    grid = Grid.over(rows.height, rows.width, window, stride)
    return np.concatenate([band.labels for band in slide.label_bands(model, rows, grid, **more)])


def by_mmseg(model: nn.Module, image: np.ndarray, window: Size, stride: Size) -> torch.Tensor:
    """Logits of mmseg's slide inference: (classes, H, W)."""
    bgr = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    data = model.data_preprocessor({'inputs': [bgr]}, False)
    model.test_cfg.update(mode='slide', crop_size=window, stride=stride)
    with torch.no_grad():
        return model.slide_inference(data['inputs'], [{'img_shape': image.shape[:2]}])[0]


@pytest.mark.parametrize(
    ('size', 'window', 'stride', 'batch'),
    [
        ((150, 203), (64, 64), (42, 42), 3),
        ((97, 131), (64, 48), (64, 48), 8),  # no overlap but at the ends
        ((40, 200), (64, 64), (30, 20), 4),  # lower than the window
        ((64, 64), (64, 64), (42, 42), 1),  # one window
        ((65, 65), (64, 64), (1, 42), 1),  # moved by a single row
    ],
)
def test_same_numbers_as_mmseg(
    model: nn.Module,
    image: np.ndarray,
    size: Size,
    window: Size,
    stride: Size,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = image[: size[0], : size[1]]
    expected = by_mmseg(model, part, window, stride)
    logits = []

    def keep(_: nn.Module, band: torch.Tensor) -> np.ndarray:
        logits.append(band.clone())
        return original(model, band)

    original = slide._classes
    monkeypatch.setattr(slide, '_classes', keep)
    done = []
    labels = labels_of(model, ArrayRows(part, 'part'), window, stride, batch=batch, advance=done.append)
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-5, atol=1e-5)
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) > 1
    agree = labels == expected.argmax(dim=0).numpy()
    assert agree.mean() > 0.999  # a tie may fall either way
    assert sum(done) == count_windows(*size, window, stride)


def test_one_output_is_two_classes(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.decode_head, 'threshold', 0.7, raising=False)
    logits = torch.tensor([0.65, 0.75]).logit().view(1, 1, 2)
    np.testing.assert_array_equal(slide._classes(model, logits), [[0, 1]])


def test_preprocessor_that_pads(model: nn.Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen of the padding is cut off, as mmseg does after a test of the whole image."""
    monkeypatch.setattr(model.data_preprocessor, 'test_cfg', {'size_divisor': 32})
    monkeypatch.setattr(model, 'test_cfg', Config({'mode': 'whole'}))
    part = image[:40, :50]
    labels = labels_of(model, ArrayRows(part, 'part'), (64, 64), (42, 42))
    bgr = torch.from_numpy(part[..., ::-1].transpose(2, 0, 1).copy())
    sample = SegDataSample(metainfo={'ori_shape': (40, 50), 'img_shape': (64, 64)})
    with torch.no_grad():
        (expected,) = model.test_step({'inputs': [bgr], 'data_samples': [sample]})
    np.testing.assert_array_equal(labels, expected.pred_sem_seg.data[0])


class Watched(ArrayRows):
    """An image that writes down what is read of it."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array, 'watched')
        self.spans: list[tuple[int, int]] = []

    def read(self, top: int, bottom: int) -> np.ndarray:
        self.spans.append((top, bottom))
        return super().read(top, bottom)


def test_every_row_is_read_once_and_few_at_a_time(model: nn.Module, image: np.ndarray) -> None:
    rows = Watched(image[:200, :64])
    bands = slide.label_bands(model, rows, Grid.over(200, 64, (64, 64), (42, 42)))
    next(bands)
    assert rows.spans == [(0, 64)]  # the first labels come before the rest is looked at
    assert sum(len(band.labels) for band in bands) == 200 - 42
    assert [top for top, _ in rows.spans[1:]] == [bottom for _, bottom in rows.spans[:-1]]
    assert rows.spans[-1][1] == 200
    assert max(bottom - top for top, bottom in rows.spans) == 64


def test_sums_do_not_grow_with_the_height(model: nn.Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, 'zeros', lambda *size, **more: shapes.append(size) or zeros(*size, **more))
    for height in (64, 256):
        shapes.clear()
        labels_of(model, ArrayRows(image[:height, :80], 'image'), (64, 64), (64, 64))
        assert [size for size in shapes if len(size) == 3] == [(12, 64, 80)]


def test_settings_that_cannot_be(model: nn.Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ArrayRows(image, 'image')
    with pytest.raises(ValueError, match=r'leaves pixels out'):
        Grid.over(256, 256, (64, 64), (65, 64))
    monkeypatch.setattr(slide, 'free_memory', lambda: 10**5)
    with pytest.raises(ValueError, match=r'12 classes x 64 rows x 256 columns .* --window 32x64'):
        labels_of(model, rows, (64, 64), (42, 42))


def test_window_of_the_config(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, 'test_cfg', Config({'mode': 'slide', 'crop_size': (48, 64), 'stride': (40, 50)}))
    assert window_of(model) == ((48, 64), (40, 50))
    monkeypatch.setattr(model, 'test_cfg', Config({'mode': 'whole'}))
    assert window_of(model) == ((64, 64), (42, 42))  # crops of the training
