"""Out of memory ends in one sentence that names options which exist."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction

from mmvim.engine import explain_out_of_memory
from mmvim.engine.oom import is_out_of_memory

CONFIGS = Path(__file__).parents[2] / 'configs/vim'
PETABYTE = 2**50


def cuda() -> None:
    raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...')


@pytest.mark.parametrize(
    'allocate',
    [
        cuda,
        lambda: torch.empty(PETABYTE, dtype=torch.uint8),
        lambda: np.empty(PETABYTE, dtype=np.uint8),
        lambda: bytearray(PETABYTE),
    ],
    ids=['cuda', 'torch', 'numpy', 'python'],
)
def test_every_kind_is_explained_and_the_original_kept(allocate):
    cfg = Config.fromfile(CONFIGS / 'upernet_vim_s_ade20k.py')
    sentence = r'^out of memory \(.*with_cp=True.*batch_size=.*crop'
    with pytest.raises(RuntimeError, match=sentence) as caught, explain_out_of_memory(cfg):
        allocate()
    assert '\n' not in str(caught.value)
    assert is_out_of_memory(caught.value.__cause__)


@pytest.mark.parametrize('name', ['upernet_vim_s_ade20k', 'cascade_mask_rcnn_vim_s_coco', 'mask_rcnn_vim_t_coco'])
def test_the_options_named_can_be_typed(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    before = cfg.copy()
    with pytest.raises(RuntimeError) as caught, explain_out_of_memory(cfg):
        raise MemoryError
    words = [word for word in shlex.split(str(caught.value).partition('--cfg-options ')[2]) if '=' in word]
    keys = {word.partition('=')[0] for word in words}
    assert {'model.backbone.with_cp', 'train_dataloader.batch_size'} <= keys
    for word in words:
        key, _, value = word.partition('=')
        cfg.merge_from_dict({key: DictAction._parse_iterable(value)})
    assert cfg.model.backbone.with_cp is True
    assert cfg.train_dataloader.batch_size == before.train_dataloader.batch_size // 2
    if name.startswith('upernet'):
        assert cfg.model.data_preprocessor.size == (256, 256)
        crops = [step.crop_size for step in cfg.train_dataloader.dataset.pipeline if 'crop_size' in step]
        assert crops == [(256, 256)]


def test_what_is_set_already_is_not_advised():
    cfg = Config({'model': {'backbone': {'with_cp': True}}, 'train_dataloader': {'batch_size': 1}})
    with pytest.raises(RuntimeError) as caught, explain_out_of_memory(cfg):
        raise MemoryError
    assert str(caught.value).endswith('--cfg-options model.backbone.arch=... (a smaller model)')


@pytest.mark.parametrize('error', [RuntimeError('shapes do not fit'), OSError(2, 'No such file'), KeyError('memory')])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, explain_out_of_memory(Config()):
        raise error
    assert caught.value is error
