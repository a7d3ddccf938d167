"""LocalMamba's published layouts to ours and back, and backbones filled from files as they were published."""

from pathlib import Path

import pytest
import torch
from official_localmamba import (
    LOCALVIM,
    LOCALVMAMBA,
    localvim_dense_shapes,
    localvim_shapes,
    localvmamba_dense_shapes,
    localvmamba_shapes,
)
from torch import Tensor

from mmvim.checkpoints import from_official, load_backbone, load_model, to_official
from mmvim.models import LocalVim, LocalVMamba, Vim, VMamba

CLASSIFIERS = {file: localvim_shapes(*how) for file, how in LOCALVIM.items()}
CLASSIFIERS |= {file: localvmamba_shapes(arch) for file, arch in LOCALVMAMBA.items()}
DENSE = {
    **{f'localvim {arch}': localvim_dense_shapes(arch) for arch in ('tiny', 'small')},
    **{f'localvmamba {arch}': localvmamba_dense_shapes(arch) for arch in ('tiny', 'small')},
}
ROPE = {'rope.freqs_cos', 'rope.freqs_sin'}
TAPS = (4, 9, 14, 19)


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Random tensors, different ones in equal places."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def empty(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}


def build(family: str, arch: str | dict, **options) -> LocalVim | LocalVMamba:
    """As the authors have their dense models."""
    if family == 'localvmamba':
        return LocalVMamba(arch, **options)
    return LocalVim(arch, **{'out_indices': TAPS, 'feature': 'branch', 'norm': 'layer'} | options)


@pytest.mark.parametrize('name', DENSE)
def test_names_of_dense_models(name: str) -> None:
    with torch.device('meta'):
        own = build(*name.split()).state_dict()
    found = from_official(empty(DENSE[name]))
    assert found.keys() - own.keys() == (ROPE if name.startswith('localvim') else set())
    assert shapes_of({key: found[key] for key in own}) == shapes_of(own)


@pytest.mark.parametrize('shapes', [*CLASSIFIERS.values(), *DENSE.values()], ids=[*CLASSIFIERS, *DENSE])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_there_and_back(shapes: dict[str, list[int]], prefix: str) -> None:
    official = {prefix + key: tensor for key, tensor in empty(shapes).items()}
    ours = from_official(official)
    assert shapes_of(to_official(ours)) == shapes_of(official)
    assert shapes_of(from_official(ours)) == shapes_of(ours)


@pytest.mark.parametrize('name', ['localvim tiny', 'localvmamba tiny'])
def test_values_there_and_back(name: str) -> None:
    official = drawn(DENSE[name])
    ours = from_official(official)
    back = to_official(ours)
    assert back.keys() == official.keys() and all(torch.equal(back[key], official[key]) for key in back)
    if name == 'localvim tiny':
        for k in range(4):  # of four independent ones
            assert torch.equal(ours['layers.7.mixer.A_logs'][k], official[f'layers.7.mixer.A_log_{k}'])
        assert torch.equal(ours['layers.0.mixer.conv1d_weight'][2], official['layers.0.mixer.conv1d_2.weight'][:, 0])
    else:
        rows = official['layers.2.blocks.3.op.A_logs'].unflatten(0, (4, -1))
        assert torch.equal(ours['layers.2.blocks.3.op.A_logs'], rows)
        assert torch.equal(ours['patch_embed.0.norm.bias'], official['patch_embed.2.bias'])


@pytest.mark.parametrize('wrapper', ['', 'module.', 'module.module.'])
@pytest.mark.parametrize('file', CLASSIFIERS)
def test_published_classifier(file: str, wrapper: str, tmp_path: Path) -> None:
    official = drawn(CLASSIFIERS[file])
    torch.save({'state_dict': {wrapper + key: x for key, x in official.items()}, 'epoch': 299}, tmp_path / file)
    vssm = file in LOCALVMAMBA
    arch, _ = (LOCALVMAMBA[file], None) if vssm else LOCALVIM[file]
    backbone = build('localvmamba' if vssm else 'localvim', arch, **({} if vssm else {'norm': 'rms'}))
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    report = load_backbone(backbone, tmp_path / file, expected_missing=backbone.expected_missing)
    new = {key for key in before if key.startswith('outnorm')}
    assert set(report.new) == new and report.matched == len(before) - len(new)
    if vssm:
        left_out = {f'classifier.{part}.{leaf}' for part in ('norm', 'head') for leaf in ('weight', 'bias')}
    else:
        left_out = {'head.weight', 'head.bias', 'norm_f.weight', *(ROPE & official.keys())}
        left_out |= {'cls_token'} & official.keys()
    assert set(report.left_out) == left_out
    expected = from_official(official)
    if 'cls_token' in official:  # its row of the table goes too, which stands in the middle
        expected['pos_embed'] = torch.cat([official['pos_embed'][:, :98], official['pos_embed'][:, 99:]], 1)
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[key] if key in new else expected[key]), key


def small(**options) -> LocalVim:
    arch = {'embed_dims': 32, 'depth': 4, 'patch_size': 16, 'patch_stride': 16}
    return LocalVim(arch, pretrain_img_size=32, **options)


def test_norms_of_other_outputs_are_not_taken(tmp_path: Path) -> None:
    whole, last = small(out_indices=(0, 1, 2, 3)), small(out_indices=-1)
    torch.nn.init.constant_(whole.outnorm0.weight, 7.0)
    torch.save(to_official(whole.state_dict()), tmp_path / 'a.pth')
    report = load_backbone(last, tmp_path / 'a.pth', expected_missing=LocalVim.expected_missing)
    assert report.done == ['norms of other outputs left out'] and (last.outnorm0.weight == 1).all()
    report = load_backbone(small(out_indices=(0, 1, 2, 3)), tmp_path / 'a.pth')
    assert not report.done and not report.new


def test_norms_with_biases_are_no_rms_norms(tmp_path: Path) -> None:
    torch.save(small(norm='layer').state_dict(), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'4 unknown to the model: layers\.0\.norm\.bias'):
        load_backbone(small(), tmp_path / 'a.pth')
    torch.save(small().state_dict(), tmp_path / 'b.pth')
    assert load_backbone(small(norm='layer'), tmp_path / 'b.pth').done == ['norms without biases: these are 0']


@pytest.mark.parametrize('family', ['localvim', 'localvmamba'])
def test_whole_model(family: str) -> None:
    """``load_from`` takes an official segmentor or detector as it is."""
    model = torch.nn.Module()
    model.backbone = build(family, 'tiny')
    model.decode_head = torch.nn.Conv2d(4, 2, 1)
    state = {f'backbone.{key}': tensor for key, tensor in drawn(DENSE[f'{family} tiny']).items()}
    state |= {'decode_head.weight': torch.ones(2, 4, 1, 1), 'decode_head.bias': torch.ones(2)}
    report = load_model(model, {'state_dict': state}, 'a.pth')
    assert report.matched == report.total == len(model.state_dict())
    assert set(report.left_out) == ({f'backbone.{key}' for key in ROPE} if family == 'localvim' else set())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('layers.3.mixer.A_log_1'), r'mixer\.A_logs: of its directions, .* has \[0, 2, 3\]'),
        (
            lambda state: state.update({'layers.3.mixer.D_1': torch.ones(2)}),
            r'mixer\.Ds: the directions must agree in shape, got \[\(2,\), \(384,\)\]',
        ),
    ],
)
def test_damaged_files(change, message: str) -> None:
    state = drawn(localvim_shapes('tiny'))
    change(state)
    with pytest.raises(ValueError, match=message):
        from_official(state)


@pytest.mark.parametrize(
    ('file', 'model', 'message'),
    [
        (
            'local_vim_small.ckpt',
            lambda: LocalVim('tiny'),
            r'LocalVim-Small \(384 wide, 20 deep\), the model is LocalVim-Tiny',
        ),
        (
            'local_vssm_small.ckpt',
            lambda: LocalVMamba('tiny'),
            r"a LocalVMamba of arch 'small' \(96 wide, depths 2-2-27-2\), the model is a LocalVMamba of arch 'tiny'",
        ),
        ('local_vim_tiny.ckpt', lambda: Vim('tiny'), 'holds LocalVim, the model is Vim$'),
        ('local_vssm_tiny.ckpt', lambda: VMamba('v0_tiny'), 'holds LocalVMamba, the model is VMamba$'),
    ],
)
def test_another_model(file: str, model, message: str, tmp_path: Path) -> None:
    torch.save({'state_dict': drawn(CLASSIFIERS[file])}, tmp_path / file)
    with pytest.raises(RuntimeError, match=message):
        load_backbone(model(), tmp_path / file, expected_missing=('outnorm*',))
