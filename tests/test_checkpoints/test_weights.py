"""Where weights may be in a checkpoint: under any key, averaged ones too, behind wrappers' names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmvim.checkpoints import load_backbone
from mmvim.checkpoints.weights import find_weights, state_dict_of
from mmvim.models import MambaOut

TINY = {'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)}


def state(value: float, count: int = 4) -> dict[str, Tensor]:
    return {f'layer{i}.weight': torch.full((2,), value) for i in range(count)}


@pytest.mark.parametrize(
    'content',
    [
        state(1),
        {'state_dict': state(1), 'state_dict_ema': state(2)},
        {'model_ema': state(2), 'model': state(1)},
        {'params': state(1), 'params_ema': state(2), 'iter': torch.tensor(3)},
        {'net': state(1), 'epoch': 3},
        {'model': {'state_dict': state(1)}, 'ema': {'model': {'state_dict': state(2)}}},
        {'trainer': {'nets': {'weights': state(1)}}, 'optimizer': {'state': {'0': state(2, 9)}}},
        {'backbone': state(1), 'dino_loss': {'center': torch.ones(3)}, 'extra': {'centre': torch.ones(3)}},
        {'model': state(1), 'discriminator': state(2, 40)},
    ],
)
def test_plain_weights_are_found(content: dict) -> None:
    found = state_dict_of(content)
    assert found.keys() == state(1).keys() and all(tensor.eq(1).all() for tensor in found.values())


@pytest.mark.parametrize('name', ['model_ema', 'state_dict_ema', 'ema_state_dict', 'ema', 'net.swa', 'averaged_model'])
def test_averages_are_taken_alone_or_on_request(name: str) -> None:
    outer, _, inner = name.partition('.')
    averaged = {outer: {inner: state(2)} if inner else state(2)}
    assert state_dict_of(averaged)['layer0.weight'][0] == 2
    both = {'net2': state(1), **averaged}
    assert state_dict_of(both)['layer0.weight'][0] == 1
    assert state_dict_of(both, name)['layer0.weight'][0] == 2
    told = f'EMA weights are there too, key={name!r} takes them'
    # mmengine has the average in state_dict, and the last step's weights under the other name.
    assert (told in find_weights(both).notes) == (name != 'ema_state_dict')
    assert find_weights(both, name).notes == [f'weights of {name}']


def test_several_are_an_error_that_names_them() -> None:
    with pytest.raises(ValueError, match=r"under student and under teacher: .* key='student' or key='teacher'"):
        state_dict_of({'student': state(1), 'teacher': state(2)})
    with pytest.raises(ValueError, match=r"no weights under key='a'; there are some under 'student', 'teacher'"):
        state_dict_of({'student': state(1), 'teacher': state(2)}, 'a')
    with pytest.raises(ValueError, match=r"no weights under key='a'; nor anywhere else"):
        state_dict_of({'epoch': 1}, 'a')


def test_nothing_is_looked_for_without_end() -> None:
    deep: dict = {'w': torch.ones(1)}
    for _ in range(6):
        deep = {'a': deep}
    with pytest.raises(ValueError, match='no weights among a'):
        state_dict_of(deep)
    wide = {f'a{i}': {} for i in range(2_000)}
    with pytest.raises(ValueError, match='no weights among a0'):
        state_dict_of({**wide, 'z': state(1)})


@pytest.mark.parametrize(
    'wrapper',
    ['module.', 'module.module.', '_orig_mod.', '_orig_mod.module.', 'module._orig_mod.', '_fsdp_wrapped_module.'],
)
def test_names_of_wrappers_are_taken_off(wrapper: str) -> None:
    found = find_weights({wrapper + key: tensor for key, tensor in state(1).items()})
    assert found.state.keys() == state(1).keys()
    assert found.wrapper == wrapper and found.notes == [f'names behind {wrapper}']


def test_parts_that_are_wrapped_and_counters() -> None:
    found = find_weights({'a._orig_mod.b': torch.ones(1), 'module.c': torch.ones(1)})
    assert list(found.state) == ['a.b', 'module.c'] and found.wrapper == '' and found.notes == []
    averaged = {'n_averaged': torch.tensor(3), 'module.a.b': torch.ones(1)}
    assert list(find_weights(averaged).state) == ['a.b']
    assert find_weights(averaged).notes == ['names behind module.', 'left out: n_averaged (counts averaged steps)']
    scale = {'logit_scale': torch.tensor(3.0), 'module.a': torch.ones(1)}
    assert find_weights(scale).state.keys() == scale.keys()


def test_init_cfg_takes_the_average(tmp_path: Path) -> None:
    plain, averaged, target = (MambaOut(TINY) for _ in range(3))
    torch.save({'model': plain.state_dict(), 'model_ema': averaged.state_dict()}, tmp_path / 'a.pth')
    report = load_backbone(target, tmp_path / 'a.pth')
    assert "EMA weights are there too, key='model_ema' takes them" in str(report)
    assert torch.equal(target.stem.conv1.weight, plain.stem.conv1.weight)
    target.init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'key': 'model_ema'}
    target.init_weights()
    assert torch.equal(target.stem.conv1.weight, averaged.stem.conv1.weight)
