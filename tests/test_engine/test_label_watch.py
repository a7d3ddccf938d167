"""A label value of no class stops training with the name of its file."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from test_engine.toy_run import config
from torch import nn

from mmvim.engine import LabelWatchHook, Runner, watch_labels


class Head(nn.Module):
    def __init__(self, num_classes: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.out_channels = out_channels or num_classes
        self.ignore_index = 255


class Model(nn.Module):
    def __init__(self, *heads: Head) -> None:
        super().__init__()
        self.decode_head, *others = heads
        self.auxiliary_head = nn.ModuleList(others)


def batch(*labels: torch.Tensor) -> dict:
    samples = []
    for number, label in enumerate(labels):
        sample = SegDataSample(metainfo={'img_path': f'a{number}.jpg', 'seg_map_path': f'masks/a{number}.png'})
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return {'inputs': [torch.zeros(3, *label.shape[-2:]) for label in labels], 'data_samples': samples}


def watch(*heads: Head) -> tuple[LabelWatchHook, SimpleNamespace]:
    runner = SimpleNamespace(model=Model(*heads), logger=logging.getLogger('watch'))
    hook = LabelWatchHook()
    hook.before_train(runner)
    return hook, runner


def good() -> torch.Tensor:
    return torch.tensor([[0, 1, 2, 255]] * 4)[None]


def test_good_labels_pass(caplog):
    hook, runner = watch(Head(3), Head(4))
    hook.before_train_iter(runner, 0, batch(good(), good()))
    assert not caplog.records


def test_heads_that_find_edges_know_nothing_of_labels():
    class STDCHead(Head):
        pass

    hook, runner = watch(Head(3), STDCHead(2))
    hook.before_train_iter(runner, 0, batch(good()))


def test_file_values_and_pixels_are_named():
    hook, runner = watch(Head(4), Head(3))
    bad = good()
    bad[0, 1] = 9
    bad[0, 0, 0] = 3
    expected = r'^masks/a1\.png .*3 \(1 pixels\), 9 \(4 pixels\); expected 0 to 2, or 255'
    with pytest.raises(ValueError, match=expected):
        hook.before_train_iter(runner, 0, batch(good(), bad))


def test_one_channel_knows_background_and_foreground():
    hook, runner = watch(Head(2, out_channels=1))
    hook.before_train_iter(runner, 0, batch(good().clamp(max=1)))
    with pytest.raises(ValueError, match='expected 0 to 1'):
        hook.before_train_iter(runner, 0, batch(good()))


def test_colours_and_sizes():
    hook, runner = watch(Head(3))
    colours = batch(good())
    colours['data_samples'][0].gt_sem_seg = PixelData(data=torch.zeros(4, 4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r'a0\.png is in colours \(3 channels\)'):
        hook.before_train_iter(runner, 0, colours)
    cut = batch(good())
    cut['inputs'][0] = torch.zeros(3, 4, 6)
    with pytest.raises(ValueError, match=r'a0\.png is 4 x 4 after loading, its image 6 x 4'):
        hook.before_train_iter(runner, 0, cut)


def test_batches_without_a_pixel_are_told_once(caplog):
    hook, runner = watch(Head(3))
    nothing = torch.full((1, 4, 4), 255)
    hook.before_train_iter(runner, 0, batch(nothing, good()))
    assert not caplog.records
    for _ in range(2):
        hook.before_train_iter(runner, 0, batch(nothing, nothing))
    assert [record.levelname for record in caplog.records] == ['WARNING']


def test_detectors_are_left_alone():
    runner = SimpleNamespace(model=nn.Linear(1, 1))
    hook = LabelWatchHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, {'inputs': [], 'data_samples': [SimpleNamespace()]})
    cfg = Config({'default_scope': 'mmdet'})
    watch_labels(cfg)
    assert 'custom_hooks' not in cfg


def test_a_run_stops_where_it_would_have_gone_on_to_a_kernel(tmp_path):
    register_all_modules(init_default_scope=False)
    cfg = config(str(tmp_path), length=8)
    cfg.model.decode_head.num_classes = 2  # the data has three
    watch_labels(cfg)
    with pytest.raises(ValueError, match=r'values of no class after loading: 2 \(\d+ pixels\); expected 0 to 1'):
        Runner.from_cfg(cfg).train()


def test_it_is_added_once():
    cfg = Config({'default_scope': 'mmseg', 'custom_hooks': [{'type': 'EMAHook'}]})
    watch_labels(cfg)
    watch_labels(cfg)
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', 'mmvim.LabelWatchHook']
