"""Maps of what goes on in a model: the scan's matrix, Grad-CAM and activations of all families, and the command."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmvim.analysis.maps import Scan, activation, grad_cam, record_scans, scan_map, see
from mmvim.analysis.maps.view import View
from mmvim.analysis.maps.watch import Watch
from mmvim.commands import run_tool
from mmvim.commands.maps import main
from mmvim.datasets.imagenet import LoadForClassifier
from mmvim.models import (
    DeiT,
    EfficientVMamba,
    LocalVim,
    LocalVMamba,
    MambaOut,
    MambaVision,
    PlainMamba,
    PlainMambaAdapter,
    Vim,
    VMamba,
)
from mmvim.ops import Walks, walks
from mmvim.ops.form import Form, Tensors
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import scan_case
from mmvim.ops.walking import walked

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {'embed_dims': 16, 'depth': 3, 'patch_size': 16, 'patch_stride': 16}
FAMILIES = {
    'vim': lambda: Vim(PLAIN),
    'vim, rotated': lambda: Vim(PLAIN, rope=True, rope_residual=True),
    'vim, class token': lambda: Vim(PLAIN, out_type='cls_token'),
    'localvim': lambda: LocalVim(PLAIN, directions=['h', 'v_flip', 'w2']),
    'plainmamba': lambda: PlainMamba({'embed_dims': 16, 'depth': 3}, raster_parameters=True),
    'adapter': lambda: PlainMambaAdapter({'embed_dims': 16, 'depth': 4, 'num_heads': 2}),
    'deit': lambda: DeiT({'embed_dims': 16, 'depth': 3, 'heads': 2}),
    'vmamba': lambda: VMamba({'embed_dims': 8, 'depths': (1, 2, 1)}, out_indices=2),
    'localvmamba': lambda: LocalVMamba({'embed_dims': 8, 'depths': (1, 2)}, out_indices=1, directions=['h', 'w2_flip']),
    'efficientvmamba': lambda: EfficientVMamba(
        {'embed_dims': (8, 16), 'depths': (1, 2), 'scan_stages': 2}, out_indices=1
    ),
    'mambavision': lambda: MambaVision(
        {'embed_dims': 16, 'depths': (1, 1, 2), 'heads': (2,)}, out_indices=2, window_sizes=(3,)
    ),
    'mambaout': lambda: MambaOut({'embed_dims': (8, 16), 'depths': (1, 1)}, out_indices=1),
}


SCANNING = [name for name in FAMILIES if name not in ('deit', 'mambaout')]
IMAGE = torch.randn(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = FAMILIES[name]()
    for parameter in model.parameters():  # away from values that hide something
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def multiplied(scan: Scan, batch: int) -> Tensor:
    """The matrix of a scan times its input: (L, D)."""
    u = walked(scan.tensors.u, scan.walks, scan.form.u_step)[batch].double()
    return torch.stack([(scan.row(token, batch) * u).sum((0, 1)) for token in range(scan.walks.num_tokens)])


HOLES = walks.from_table([[3, -1, 0, 5, 1, -1, 2], [1, 4, -1, -1, 0, 3, 5]], 2, 3)  # one walk misses 4, one misses 2


@pytest.mark.parametrize('walk', [walks.cross(3, 4), walks.snake(3, 3), walks.strided(3, 3), HOLES], ids=str)
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'rank': 2, 'z': True, 'scale': 0.5, 'own_parameters': False},
        {'u_order': 'step', 'param_order': 'step'},
        {'per_walk': False, 'D': False, 'delta_bias': False, 'delta_softplus': False},
    ],
    ids=['tokens', 'low rank, gate', 'steps', 'shared, bare'],
)
def test_matrix_times_input_is_the_scan(walk: Walks, options: dict) -> None:
    """Row by row, for every option of the operator: the judge of all kernels says what it has to be."""
    case = scan_case(walk, dtype=torch.float64, **options)
    want, _ = scan_reference(**case)
    wide = {
        name: x.unsqueeze(1) if name in ('u', 'delta', 'B', 'C') and x.dim() == 3 else x
        for name, x in case.items()
        if name in Tensors._fields
    }
    orders = [case[f'{name}_order'] == 'step' for name in ('u', 'param')]
    form = Form(walk.kinds, walk.height, walk.width, case['delta_softplus'], *orders, True, case['scale'])
    scan = Scan(Tensors(**wide), walk, form)
    for batch in range(2):
        torch.testing.assert_close(multiplied(scan, batch), want[batch], rtol=1e-9, atol=1e-9)


def test_feeds_by_hand() -> None:
    """One channel, one state, steps of 1: token j comes with exp(-(i - j)), and nothing comes from behind."""
    ones = torch.ones(1, 1, 4, 1)
    tensors = Tensors(ones, ones, -torch.ones(1, 1, 1), ones, ones, None, None, None, None)
    scan = Scan(tensors, walks.bidirectional(4), Form((0, 2), 1, 4, False, False, False, True, 1.0))
    forward, backward = scan.feeds(2)
    assert forward.tolist() == pytest.approx([np.exp(-2), np.exp(-1), 1, 0])
    assert backward.tolist() == pytest.approx([0, 0, 1, np.exp(-1)])
    assert scan.titles() == ['rows', 'rows, backwards']


@pytest.mark.parametrize('name', SCANNING)
def test_matrix_of_every_family(name: str) -> None:
    """What a model hands to the operator is seen, and the matrix made of it gives what the operator gave."""
    model = build(name)
    (scan, *_) = record_scans(model, IMAGE, model.used_stages()[-1])
    t, form = scan.tensors, scan.form
    orders = {name: 'step' if step else 'token' for name, step in (('u', form.u_step), ('param', form.param_step))}
    want, _ = scan_reference(
        *t[:6], walks=scan.walks, z=t.z, delta_bias=t.delta_bias, dt_weight=t.dt_weight, scale=form.scale,
        u_order=orders['u'], param_order=orders['param'], delta_softplus=form.delta_softplus,
    )  # fmt: skip
    torch.testing.assert_close(multiplied(scan, 0).float(), want[0], rtol=1e-4, atol=1e-5)
    found = scan_map(model, IMAGE, (0.5, 0.3))
    height, width = found.walks.shape[1:]
    assert len(found.titles) == len(found.walks) == scan.walks.num_walks
    row, column = found.token
    assert (row, column) == (height // 2, int(0.3 * width))
    assert found.walks.sum(0)[row, column] > 0  # a token feeds itself


def test_scan_within_windows() -> None:
    """Of MambaVision's map nothing but the window of the token counts, and the right one does."""
    model = build('mambavision')
    with Watch(model, -1) as watch:
        grids = []
        watch.probe.register_forward_hook(lambda module, inputs, output: grids.append(output.shape[2:]))
        model(IMAGE)
    assert tuple(grids[0]) == (5, 6)
    found = scan_map(model, IMAGE, (4.5 / 5, 5.5 / 6)).walks[0]
    assert found[3:, 3:].all() and not found[:3].any() and not found[:, :3].any()
    first = scan_map(model, IMAGE, (1.5 / 5, 0.5 / 6)).walks[0]  # row by row, and causal
    assert first[0, :3].all() and first[1, 0] and not first[1, 1:].any() and not first[2:].any()


@pytest.mark.parametrize('name', FAMILIES)
def test_all_that_goes_on_is_watched(name: str) -> None:
    """With the probe a model gives what it gave; what it gives for another image is decided by the probe alone."""
    model = build(name)
    last = len(model.used_stages()) - 1
    for stage in (0, last):
        with torch.no_grad():
            want = model(IMAGE)[-1]
            with Watch(model, stage):
                torch.testing.assert_close(model(IMAGE)[-1], want)
            seen = []
            with Watch(model, stage) as watch:
                watch.probe.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
                model(IMAGE)
            if name in ('adapter', 'vim, class token'):  # maps of the convolutions, and the class token, do pass
                continue
            with Watch(model, stage) as watch:
                watch.probe.register_forward_hook(lambda module, inputs, output, seen=seen: seen[0])
                torch.testing.assert_close(model(IMAGE.flip(3))[-1], want, rtol=1e-4, atol=1e-5)
    assert activation(model, IMAGE, 0).shape == tuple(seen[0].shape[2:]) or stage != 0


class Sum(nn.Module):
    """A classifier of two classes: the sums of two channels of the last map, the second one negative."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def scores(self, inputs: Tensor) -> Tensor:
        last = self.backbone(inputs)[-1]
        return torch.stack([last[:, 0].sum((1, 2)), -last[:, 1].sum((1, 2))], 1)


def seen(inputs: Tensor) -> View:
    height, width = inputs.shape[2:]
    return View(inputs.clone(), [], np.zeros((height, width, 3), np.uint8), (1.0, 1.0))


@pytest.mark.parametrize('name', ['deit', 'vim', 'plainmamba'])
def test_grad_cam_by_the_formula(name: str) -> None:
    """The last block's stream is the last map here: the gradient of a class is 1 in one channel, 0 in the others."""
    model = Sum(build(name))
    if name == 'plainmamba':
        model.backbone.norm_f = nn.Identity()
    with torch.no_grad():
        last = model.backbone(IMAGE)[-1][0]
    for label, want in enumerate((last[0].relu(), (-last[1]).relu())):
        values, found, said = grad_cam(model, seen(IMAGE), label=label)
        np.testing.assert_allclose(values, want.numpy(), rtol=1e-4, atol=1e-5)
        assert found == label and said.startswith('probability ')
    with pytest.raises(ValueError, match='class 2: the model has the classes 0 to 1'):
        grad_cam(model, seen(IMAGE), label=2)


def test_stages_that_are_not_there() -> None:
    with pytest.raises(ValueError, match='stage 3: VMamba is computed in stages 0 to 2 here'):
        activation(build('vmamba'), IMAGE, 3)
    with pytest.raises(RuntimeError, match='nothing is scanned in this stage of MambaOut'):
        scan_map(build('mambaout'), IMAGE, (0.5, 0.5))
    with pytest.raises(ValueError, match='block 2: there are scans 0 to 0 in this stage'):
        scan_map(build('vmamba'), IMAGE, (0.5, 0.5), block=2)
    with pytest.raises(TypeError, match='Linear is no backbone of mmvim'):
        activation(nn.Linear(1, 1), IMAGE)


def test_places_of_a_classifier() -> None:
    """The middle is cut out of a wide image: what is outside of it has no place."""

    class Normalised(nn.Module):
        def data_preprocessor(self, batch: dict, training: bool) -> dict:
            return {'inputs': torch.stack(batch['inputs']).float()}

    image = np.zeros((50, 100, 3), np.uint8)
    image[20:30, 60:70] = 255
    view = see(Normalised(), LoadForClassifier(100, 80), image)
    assert view.picture.shape == (80, 80, 3)
    assert view.picture[view.place((25, 65))].tolist() == [255, 255, 255]
    assert view.fraction((25, 65)) == (pytest.approx(41.5 / 80), pytest.approx(71.5 / 80))
    with pytest.raises(ValueError, match='row 25, column 20 is outside .* rows 5 to 44, columns 30 to 69'):
        view.place((25, 20))


CONFIGS = {
    'segmentor': f"""
_base_ = '{ROOT}/configs/demo/upernet_vim_t_miniature.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, depth=4, patch_size=16, patch_stride=16), out_indices=(0, 1, 2, 3)
    ),
    neck=dict(in_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
    auxiliary_head=dict(in_channels=16),
)
""",
    'detector': f"""
_base_ = '{ROOT}/configs/demo/mask_rcnn_vmamba_miniature.py'
model = dict(backbone=dict(arch=dict(embed_dims=8, depths=(1, 1, 1))), neck=dict(in_channels=[8, 16, 32]))
model['test_cfg'] = dict(rcnn=dict(score_thr=0.0))
""",
    'classifier': f"""
_base_ = '{ROOT}/configs/vmamba/vmamba_t_imagenet.py'
arch = dict(_delete_=True, embed_dims=8, depths=(1, 1))
model = dict(backbone=dict(arch=arch, out_indices=1), head=dict(in_channels=16, num_classes=5))
""",
}


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a checkpoint of each kind, and an image."""
    folder = tmp_path_factory.mktemp('models')
    for name, text in CONFIGS.items():
        (folder / f'{name}.py').write_text(text)
        cfg = Config.fromfile(folder / f'{name}.py')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
    noise = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1)))
    cv2.imwrite(str(folder / 'scene.png'), noise.astype(np.uint8))
    return folder


@pytest.mark.parametrize(
    ('kind', 'options', 'said'),
    [
        ('segmentor', ['--at', '50,70', '--class', 'tree'], 'Grad-CAM of tree, at row 50, column 70 of the picture'),
        ('segmentor', ['--kind', 'scan', '--stage', '2', '--at', '50,70'], ''),
        ('segmentor', ['--kind', 'activation', '--stage', '1'], ''),
        ('detector', ['--stage', '1'], 'confidence'),
        ('detector', ['--kind', 'scan', '--stage', '0'], ''),
        ('classifier', ['--stage', '0'], 'probability'),
        ('classifier', ['--kind', 'scan', '--at', '40,60'], ''),
    ],
)
def test_command(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str, options: list[str], said: str
) -> None:
    """Every kind of model, every kind of map: a picture, and arrays of a size that fits."""
    arguments = [str(models / name) for name in ('scene.png', f'{kind}.py', f'{kind}.pth')]
    assert main([*arguments, *options, '--out', str(tmp_path / 'maps')]) == 0
    printed = capsys.readouterr().out
    assert said in printed
    picture, arrays = (Path(line) for line in printed.splitlines()[-2:])
    assert picture.stat().st_size > 5_000
    found = np.load(arrays)
    assert found['picture'].ndim == 3
    values = found['walks'] if 'walks' in found else found['map']
    assert np.isfinite(values).all() and values.max() > 0


def test_sentences(models: Path, tmp_path: Path) -> None:
    image, config, file = (str(models / name) for name in ('scene.png', 'segmentor.py', 'segmentor.pth'))
    for arguments, sentence in {
        (image, config): 'no weights of .*segmentor.py are published: name a checkpoint after it',
        (image, config, file, '--class', 'treee'): "there is no class 'treee'; nearest: tree",
        (image, config, file, '--class', '²'): "there is no class '²'",
        (image, config, file, '--at', '500,3'): 'row 500, column 3 is outside of what the model sees .* rows 0 to 95',
        (file, config, file): 'cannot be read as an image',
    }.items():
        with pytest.raises(SystemExit, match=f'error: .*{sentence}'):
            run_tool(lambda arguments=arguments: main([*arguments, '--out', str(tmp_path)]))
    with pytest.raises(SystemExit):
        main([image, config, file, '--at', 'here'])
    for place in ('nan,3', '3,inf'):
        with pytest.raises(SystemExit):
            main([image, config, file, '--at', place])
    in_the_way = tmp_path / 'file'
    in_the_way.touch()
    with pytest.raises(SystemExit, match='error: .*file cannot be made .*: name another folder with --out'):
        run_tool(lambda: main([image, config, file, '--out', str(in_the_way)]))


def test_names_with_dots_are_kept_apart(models: Path, tmp_path: Path) -> None:
    image = tmp_path / 'scene.v1.png'
    image.write_bytes((models / 'scene.png').read_bytes())
    for stage in '12':
        main([
            str(image), str(models / 'segmentor.py'), str(models / 'segmentor.pth'),
            '--kind', 'activation', '--stage', stage, '--out', str(tmp_path / 'maps'),
        ])  # fmt: skip
    names = {f'scene.v1_activation_{stage}{ending}' for stage in '12' for ending in ('.png', '.npz')}
    assert {path.name for path in (tmp_path / 'maps').iterdir()} == names
