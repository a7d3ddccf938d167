"""One image per batch and batch norm over pooled maps: said before training, with ways out that train."""

import shlex
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, DefaultScope
from mmseg.utils import register_all_modules
from test_engine.toy_run import config

from mmvim.engine.oom import advice
from mmvim.engine.pooled_norm import check_pooled_norm
from mmvim.engine.runner import Runner

CONFIGS = Path(__file__).parents[2] / 'configs/vim'


def toy(batch_size: int, **loader) -> Config:
    cfg = config('nowhere')
    cfg.train_dataloader.update(batch_size=batch_size, **loader)
    return cfg


def step(cfg: Config) -> torch.Tensor:
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(cfg.model.decode_head).train()
    side = [8, 4, 2, 2]
    return head([torch.randn(cfg.train_dataloader.batch_size, 16, size, size) for size in side])


def test_what_is_said_holds_and_each_way_out_trains():
    cfg = toy(1)
    with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
        step(cfg)
    with pytest.raises(ValueError, match='train_dataloader.batch_size=2, or') as caught:
        check_pooled_norm(cfg)
    options, _, others = str(caught.value).partition('--cfg-options ')[2].partition(', or normalise otherwise: ')
    for words in (options, others):
        changed = cfg.copy()
        for word in shlex.split(words):
            key, _, value = word.partition('=')
            changed.merge_from_dict({key: DictAction._parse_iterable(value)})
        check_pooled_norm(changed)
        assert step(changed).isfinite().all()


@pytest.mark.parametrize(('sampler', 'images', 'drop_last', 'fails'), [
    ('DefaultSampler', 7, False, True),
    ('DefaultSampler', 7, True, False),
    ('DefaultSampler', 8, False, False),
    ('InfiniteSampler', 7, False, False),
    ('DefaultSampler', None, False, False),
])  # fmt: skip
def test_a_last_batch_of_one(sampler, images, drop_last, fails):
    cfg = toy(2, sampler={'type': sampler}, drop_last=drop_last)
    if fails:
        with pytest.raises(ValueError, match='drop_last=True'):
            check_pooled_norm(cfg, images)
    else:
        check_pooled_norm(cfg, images)


def test_the_runner_knows_how_many_images_there_are(tmp_path):
    register_all_modules(init_default_scope=False)
    cfg = config(str(tmp_path), by_epoch=True, length=1)
    cfg.train_dataloader.dataset.indices = 5
    with pytest.raises(ValueError, match=r'the last of 5 images is a batch by itself \(.*=2\)'):
        Runner.from_cfg(cfg).train()


def test_sync_bn_counts_the_images_of_all_processes(monkeypatch):
    cfg = toy(1)
    cfg.model.decode_head.norm_cfg = {'type': 'SyncBN'}
    with pytest.raises(ValueError, match='model.decode_head'):
        check_pooled_norm(cfg)
    monkeypatch.setenv('WORLD_SIZE', '2')
    check_pooled_norm(cfg)


def test_other_heads_train_on_one_image():
    cfg = toy(1)
    cfg.model.decode_head.pool_scales = (2, 3)
    check_pooled_norm(cfg)
    check_pooled_norm(Config.fromfile(CONFIGS / 'mask_rcnn_vim_t_coco.py'))


def test_out_of_memory_does_not_advise_what_fails():
    cfg = Config.fromfile(CONFIGS / 'upernet_vim_t_ade20k.py')
    for batch_size, advised in ((4, True), (3, False), (2, False)):
        cfg.train_dataloader.batch_size = batch_size
        assert ('batch_size=' in advice(cfg)) is advised
    cfg.model.decode_head.norm_cfg = {'type': 'GN', 'num_groups': 32}
    assert 'batch_size=1' in advice(cfg)
