"""Honest checkpoints come back as they were saved; foreign objects in them do not matter; damaged ones are told."""

import argparse
import sys
import types
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from mmvim.checkpoints import read
from mmvim.checkpoints.builders import Foreign

FORMATS = pytest.mark.parametrize('new_format', [True, False], ids=['zip', 'legacy'])


def save(content: Any, path: Path, new_format: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    return path


def assert_same(ours: Any, theirs: Any, where: str = '') -> None:
    """Equality of types, order and values, all the way down."""
    if isinstance(theirs, (np.ndarray, HistoryBuffer)):
        assert isinstance(ours, type(theirs)), where
    else:
        assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f'{where}[{key!r}]')
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), where
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f'{where}[{i}]')
    elif isinstance(theirs, (torch.Tensor, np.ndarray)):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and (ours == theirs).all(), where
    elif isinstance(theirs, HistoryBuffer):
        assert_same([ours.max_length, *ours.data], [theirs.max_length, *theirs.data], where)
    else:
        assert ours == theirs, where


def history() -> HistoryBuffer:
    buffer = HistoryBuffer([1.5, 2.5], [1, 2])
    buffer.update(4.0, 3)
    return buffer


def runner_checkpoint() -> dict:
    """What mmengine's runner saves, in kinds of content."""
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    shared = torch.randn(4, 4)
    return {
        'meta': {
            'epoch': 1,
            'iter': 7,
            'cfg': 'a = 1',
            'dataset_meta': {'classes': ('a', 'b'), 'palette': [[1, 2, 3], [4, 5, 6]]},
        },
        'state_dict': OrderedDict(
            weight=parameter,
            half=torch.randn(3).half(),
            brain=torch.randn(3).bfloat16(),
            view=shared[1:, ::2],
            steps=torch.tensor(3),
            empty=torch.empty(0, 3),
        ),
        'message_hub': {
            'log_scalars': OrderedDict([('train/loss', history()), ('empty', HistoryBuffer())]),
            'runtime_info': OrderedDict(eta=np.float64(0.5), best=np.int64(3), seen={1, 2}, span=range(3)),
            'resumed_keys': OrderedDict(eta=True),
        },
        'optimizer': {'state': {0: {'step': torch.tensor(7.0), 'exp_avg': torch.randn(2, 3)}}, 'param_groups': [{}]},
        'param_schedulers': [
            {'milestones': Counter({8: 1, 11: 2}), 'anneal_func': OneCycleParamScheduler._annealing_cos},
            {'table': np.arange(6, dtype='i2').reshape(2, 3), 'order': np.asfortranarray(np.eye(3))},
        ],
    }


@FORMATS
def test_runner_checkpoint(tmp_path: Path, new_format: bool) -> None:
    theirs = runner_checkpoint()
    path = save(theirs, tmp_path / 'a.pth', new_format)
    ours = read(path)
    assert_same(ours, theirs)
    # It is saved and read again, as the run goes on.
    assert_same(read(save(ours, tmp_path / 'b.pth', new_format)), theirs)
    assert_same(torch.load(tmp_path / 'b.pth', weights_only=False), theirs)


def test_history_goes_on(tmp_path: Path) -> None:
    buffer = read(save({'a': history()}, tmp_path / 'a.pth'))['a']
    buffer.update(8.0)
    assert buffer.mean(2) == pytest.approx((4.0 + 8.0) / (3 + 1))
    assert buffer.statistics('max') == 8.0
    assert HistoryBuffer([1.0, 3.0], [1, 1]).statistics('min') == 1.0


def test_metadata_of_a_state_dict(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    assert read(save({'state_dict': state}, tmp_path / 'a.pth'))['state_dict']._metadata == state._metadata


class Colour(Enum):
    RED = 1


class AttributeDict(dict):
    """A dict of the kind that configuration systems use."""


@pytest.fixture
def foreign_class() -> Any:
    """A configuration class whose package is gone when the file is read, as with yacs."""
    package, module = types.ModuleType('yacs'), types.ModuleType('yacs.config')
    module.CfgNode = type('CfgNode', (dict,), {'__module__': 'yacs.config'})
    sys.modules.update({'yacs': package, 'yacs.config': module})
    yield module.CfgNode
    sys.modules.pop('yacs', None)
    sys.modules.pop('yacs.config', None)


@FORMATS
def test_foreign_classes(tmp_path: Path, foreign_class: type, new_format: bool) -> None:
    node = foreign_class(MODEL=foreign_class(DEPTH=[2, 2]), LR=0.1)
    node.frozen = True
    weights = torch.randn(3)
    content = {
        'model': {'weight': weights},
        'config': node,
        'args': argparse.Namespace(lr=0.1, since=datetime(2024, 1, 1), kind=int, path=Path('x')),
        'others': [Colour.RED, AttributeDict(a=1), defaultdict(list, b=[2]), np.random.RandomState(0)],
    }
    path = save(content, tmp_path / 'a.pth', new_format)
    del sys.modules['yacs'], sys.modules['yacs.config']
    ours = read(path)
    assert torch.equal(ours['model']['weight'], weights)
    assert isinstance(ours['config'], Foreign) and repr(ours['config']) == '<yacs.config.CfgNode, left out>'
    assert isinstance(ours['args'], Foreign)
    assert ours['others'][2] == {'b': [2]}
    # A run that resumes from such a file can save again.
    again = read(save({'config': ours['config']}, tmp_path / 'b.pth'))
    assert isinstance(again['config'], Foreign)


def test_tensor_subclass_becomes_a_tensor(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    tensor.tag = 'attributes of tensors are saved in another way'
    ours = read(save({'a': tensor}, tmp_path / 'a.pth'))['a']
    assert type(ours) is torch.Tensor and torch.equal(ours, tensor)


def test_map_location(tmp_path: Path) -> None:
    path = save({'a': torch.ones(2)}, tmp_path / 'a.pth')
    assert read(path, map_location='meta')['a'].device.type == 'meta'


@FORMATS
def test_truncated(tmp_path: Path, new_format: bool) -> None:
    path = save(runner_checkpoint(), tmp_path / 'whole.pth', new_format)
    whole = path.read_bytes()
    cut = tmp_path / 'cut.pth'
    for length in [1, 4, 30, 100, 1000, len(whole) // 2, len(whole) - 200, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(RuntimeError, match=r'cut\.pth \(\d+ bytes\) is truncated, damaged or no checkpoint'):
            read(cut)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is empty'),
        (b'\xff\xd8\xff\xe0' + bytes(100), 'it is a JPEG image'),
        (b'\n<!DOCTYPE html><html>404</html>', 'HTML'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'Git LFS pointer'),
        (b'\x1f\x8b' + bytes(100), 'gzip'),
        (b'Hello, this is no checkpoint.\n', 'no checkpoint of torch'),
        (bytes(10), 'no checkpoint of torch'),
        (b'PK\x03\x04' + bytes(50), 'no checkpoint of torch'),
    ],
)
def test_not_a_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises((ValueError, RuntimeError), match=message):
        read(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [(torch.ones(2), 'object of Tensor'), (torch.nn.Linear(1, 1), r'object of torch\.nn\.\S*Linear')],
)
def test_not_a_dict(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(save(content, tmp_path / 'a.pth'))


def test_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='is a folder: name the checkpoint'):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*nothing\.pth'):
        read(tmp_path / 'nothing.pth')


def test_environment_that_binds_torch_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable forbids torch.load the loading of objects, which has no part in ours."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert read(save({'a': 1}, tmp_path / 'a.pth')) == {'a': 1}
