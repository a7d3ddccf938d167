"""Outputs of a backbone that nothing asks for, before DDP stops at their parameters."""

from typing import Any

import pytest
from mmengine.config import Config

from mmvim.commands.train import train
from mmvim.preflight.outputs import check_outputs

ARCH = {'embed_dims': (4, 8, 8, 16), 'depths': (1, 1, 1, 1)}
HEAD = {'type': 'FCNHead', 'channels': 4, 'num_classes': 2}


def config(model: dict, backbone: dict | None = None, **others: Any) -> Config:
    backbone = {'type': 'mmvim.MambaOut', 'arch': ARCH, **(backbone or {})}
    return Config({'launcher': 'pytorch', 'default_scope': 'mmdet', 'model': {'backbone': backbone, **model}, **others})


def sentence(*args: Any, **others: Any) -> str:
    return ''.join(finding.sentence for finding in check_outputs(config(*args, **others)))


FPN = {'type': 'FPN', 'in_channels': [4, 8, 8, 16], 'start_level': 1, 'num_outs': 5}
FCN = {'decode_head': {**HEAD, 'in_channels': 16, 'in_index': 3}, 'auxiliary_head': {**HEAD, 'in_index': 2}}


def test_neck_that_begins_later() -> None:
    assert sentence({'neck': FPN}) == (
        'backbone.outnorm0.weight, backbone.outnorm0.bias get no gradient, at which several processes stop: of the '
        'outputs (0, 1, 2, 3) of the backbone the model uses (1, 2, 3) alone; write '
        'model.backbone.out_indices=(1, 2, 3), model.neck.in_channels=[8, 8, 16], model.neck.start_level=0; or '
        'find_unused_parameters=True, which takes a little time in every step'
    )
    several = {'neck': [{**FPN, 'end_level': 2}, {'type': 'DyHead'}]}
    assert 'find_unused_parameters=True lets them be' in sentence(several)  # stage 3 would be there all the same


@pytest.mark.parametrize(
    ('model', 'expected'),
    [
        (FCN, 'model.backbone.out_indices=(2, 3), model.decode_head.in_index=1, model.auxiliary_head.in_index=0;'),
        ({'decode_head': HEAD}, 'model.backbone.out_indices=(3,);'),
        (
            {'decode_head': [{**HEAD, 'in_index': [1, 3]}, {**HEAD, 'in_index': -1}]},
            'model.backbone.out_indices=(1, 3), model.decode_head[0].in_index=[0, 1];',
        ),
    ],
)
def test_heads_that_leave_stages_out(model: dict, expected: str) -> None:
    assert f'write {expected}' in sentence(model)


@pytest.mark.parametrize(
    ('model', 'backbone', 'others'),
    [
        ({'neck': {**FPN, 'start_level': 0}}, {}, {}),
        ({'neck': {'type': 'ChannelMapper'}}, {}, {}),
        ({'decode_head': {**HEAD, 'in_index': [0, 1, 2, 3]}}, {}, {}),
        ({'decode_head': {'type': 'Mask2FormerHead', 'in_channels': [4, 8, 8, 16]}}, {}, {}),
        ({'neck': FPN}, {'out_norm': False}, {}),
        ({'neck': FPN}, {'frozen_stages': 1}, {}),
        ({'neck': FPN}, {'type': 'mmdet.ResNet'}, {}),
        ({'neck': FPN}, {}, {'launcher': 'none'}),
        ({'neck': FPN}, {}, {'find_unused_parameters': True}),
        ({'neck': FPN}, {}, {'model_wrapper_cfg': {'type': 'MMFullyShardedDataParallel'}}),
        (FCN, {'type': 'mmvim.Vim', 'arch': {'embed_dims': 8, 'depth': 4, 'patch_size': 16, 'patch_stride': 16},
               'out_indices': (0, 1, 2, 3)}, {}),
    ],
)  # fmt: skip
def test_nothing_to_say(model: dict, backbone: dict, others: dict) -> None:
    assert sentence(model, backbone, **others) == ''


def test_stages_behind_the_last_output() -> None:
    said = sentence({'neck': {**FPN, 'in_channels': [4, 8], 'start_level': 0}}, {'out_indices': (0, 1)})
    assert 'they stand behind the last of the outputs (0, 1)' in said and said.endswith('lets them be')


def test_training_stops_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RANK', '0')
    options = ['model.auxiliary_head=None', 'model.decode_head.in_index=[1,2,3]']
    with pytest.raises(ValueError, match=r'outnorm0\.weight.*write model\.backbone\.out_indices=\(1, 2, 3\)'):
        train(['configs/vmamba/upernet_vmamba_t_ade20k.py', '--launcher', 'pytorch', '--cfg-options', *options])
