"""Names behind any prefix: the one behind which a whole model stands is found, and two of them are an error."""

from pathlib import Path
from typing import Any

import pytest
import torch
from official import official_state
from torch import Tensor, nn

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.checkpoints.classifier import to_classifier
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.families import family_of, name_of
from mmvim.checkpoints.prefixes import Several, find_prefix
from mmvim.models import DeiT, ImageClassifier, MambaOut, MambaVision, Vim, VMamba

SMALL = {
    'Vim': lambda: Vim({'embed_dims': 8, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}),
    'VMamba': lambda: VMamba({**VMamba.arch_zoo['tiny'], 'embed_dims': 8, 'depths': (1, 1, 1, 1)}),
    'MambaOut': lambda: MambaOut({'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)}),
    'MambaVision': lambda: MambaVision({'embed_dims': 8, 'stem_dims': 4, 'depths': (1, 1, 1, 1), 'heads': (1, 1)}),
    'DeiT': lambda: DeiT({'embed_dims': 8, 'depth': 1, 'heads': 1}),
}
PREFIXES = ['module.module.', '_orig_mod.', '_orig_mod.module.', 'model.backbone.', 'a.b.encoder.backbone.', 'net.']


def behind(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


class Whole(nn.Module):
    """What a segmentor is to a checkpoint."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = SMALL[name]()
        self.decode_head = nn.Conv2d(2, 2, 1)


@pytest.mark.parametrize('official', [True, False])
@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('name', SMALL)
def test_backbone_behind_a_prefix(tmp_path: Path, name: str, prefix: str, official: bool) -> None:
    source, target = SMALL[name](), SMALL[name]()
    state = source.state_dict()
    state = behind(prefix, to_official(state) if official else state)
    assert family_of(state).name == name
    others = {} if prefix in ('net.', '_orig_mod.') or 'module' in prefix else {'fc.weight': torch.ones(2)}
    torch.save({'model': state | others}, tmp_path / 'a.pth')
    report = load_backbone(target, tmp_path / 'a.pth')
    assert report.matched == len(source.state_dict())
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[key]), key
    if (name, prefix) != ('Vim', 'net.'):  # which its official detector has in its names
        assert f'names behind {prefix}' in str(report)


def test_the_log_names_wrappers(tmp_path: Path) -> None:
    source = SMALL['VMamba']()
    torch.save(behind('_orig_mod.module.model.backbone.', source.state_dict()), tmp_path / 'a.pth')
    report = load_backbone(source, tmp_path / 'a.pth')
    assert report.done == ['names behind _orig_mod.module.', 'names behind model.backbone.']
    for prefix in ('model.backbone', '_orig_mod.module.model.backbone.', 'module.model.backbone'):
        assert load_backbone(source, tmp_path / 'a.pth', prefix=prefix).matched == report.matched


@pytest.mark.parametrize('name', SMALL)
def test_student_and_teacher(tmp_path: Path, name: str) -> None:
    student, teacher, target = (SMALL[name]() for _ in range(3))
    state = behind('student.backbone.', student.state_dict()) | behind('teacher.backbone.', teacher.state_dict())
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    both = r"each of student\.backbone\., teacher\.backbone\.: .*prefix='student\.backbone\.' or prefix='teacher\."
    with pytest.raises(RuntimeError, match=both):
        load_backbone(target, tmp_path / 'a.pth')
    load_backbone(target, tmp_path / 'a.pth', prefix='teacher.backbone.')
    assert torch.equal(next(target.parameters()), next(teacher.parameters()))


def test_teacher_beside_the_model_itself(tmp_path: Path) -> None:
    model = SMALL['MambaOut']()
    torch.save(model.state_dict() | behind('teacher.', model.state_dict()), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r"no prefix, teacher\.: .*prefix='' or prefix='teacher\.'"):
        load_backbone(model, tmp_path / 'a.pth')
    report = load_backbone(model, tmp_path / 'a.pth', prefix='')
    assert len(report.left_out) == report.matched and all(key.startswith('teacher.') for key in report.left_out)
    convert(tmp_path / 'a.pth', tmp_path / 'b.pth', prefix='')
    assert torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict'].keys() == model.state_dict().keys()


@pytest.mark.parametrize('prefix', ['model.', 'module.module.', 'student.detector.'])
def test_whole_model(prefix: str) -> None:
    source, target = Whole('VMamba'), Whole('VMamba')
    checkpoint = {'state_dict': behind(prefix, source.state_dict()) | {'loss_scale': torch.ones(1)}}
    if 'module.' in prefix:
        del checkpoint['state_dict']['loss_scale']
    report = load_model(target, checkpoint, 'a.pth')
    assert f'names behind {prefix}' in str(report)
    assert torch.equal(target.decode_head.weight, source.decode_head.weight)
    assert torch.equal(target.backbone.layers[0].blocks[0].op.Ds, source.backbone.layers[0].blocks[0].op.Ds)


def test_whole_student_and_teacher(tmp_path: Path) -> None:
    model = Whole('MambaOut')
    state = behind('student.', model.state_dict()) | behind('teacher.', model.state_dict())
    with pytest.raises(RuntimeError, match=r"convert_checkpoint\.py a\.pth NEW\.pth --prefix 'student\.' or --prefix"):
        load_model(model, {'state_dict': state}, 'a.pth')
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    convert(tmp_path / 'a.pth', tmp_path / 'b.pth', prefix='student')
    load_model(model, torch.load(tmp_path / 'b.pth', weights_only=True), 'b.pth')


def test_classifier_behind_a_prefix() -> None:
    def small() -> Any:
        backbone = {'type': 'mmvim.MambaOut', 'arch': {'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)},
                    'out_indices': (3,), 'out_norm': False}  # fmt: skip
        head = {'type': 'mmvim.MLPHead', 'num_classes': 5, 'in_channels': 8}
        return ImageClassifier(backbone, head)

    source, target = small(), small()
    published = to_official(to_classifier(source.state_dict()))
    load_model(target, {'model': behind('model.', published)}, 'a.pth')
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


def test_conversion_behind_two_prefixes() -> None:
    official = official_state('tiny_cls', 1)
    both = from_official(behind('student.', official) | behind('student.teacher.', official) | {'x': torch.ones(1)})
    alone = from_official(official)
    assert both.keys() == behind('student.', alone).keys() | behind('student.teacher.', alone).keys() | {'x'}


def test_find_prefix() -> None:
    assert find_prefix(['a.b', 'c'], ['x.a.b', 'x.c', 'y.c']) == 'x.'
    assert find_prefix(['a.b', 'c'], ['a.b', 'x.c']) == ''
    assert find_prefix(['a.b'], ['c']) is None
    with pytest.raises(Several) as caught:
        find_prefix(['c'], ['x.c', 'c'])
    assert caught.value.prefixes == ['', 'x.']


@pytest.mark.parametrize('name', SMALL)
def test_a_refused_file_is_described_in_words(tmp_path: Path, name: str) -> None:
    """By the model that it holds, or as an unknown one; never by empty lists."""
    target = SMALL[name]()
    states = {
        'strange': behind('a.b.', {key: tensor for key, tensor in target.state_dict().items() if 'patch' not in key}),
        'unknown': {'x.y': torch.ones(1)},
        'empty': behind('q.', dict(list(target.state_dict().items())[-3:])),
    }
    for file, state in states.items():
        state.pop(next(iter(state)))
        if not state:
            state = {'x.z': torch.ones(1)}
        torch.save(state, tmp_path / f'{file}.pth')
        with pytest.raises(RuntimeError) as caught:
            load_backbone(target, tmp_path / f'{file}.pth')
        assert f'{file}.pth holds ' in str(caught.value)
        assert 'depths )' not in str(caught.value) and '( wide' not in str(caught.value)
    assert name_of({'x.y': torch.ones(1)}) == 'a model that is not known here'
