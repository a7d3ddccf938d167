"""``tools/export.py``, and what other tools do with its files."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmvim.commands.demo import main as demo
from mmvim.commands.export import main
from mmvim.commands.test import test as evaluate
from mmvim.errors import UserError
from mmvim.export import compare
from mmvim.inference.runtimes import Exported, description_of
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.models.build import build_untrained
from mmvim.preflight.config import load_config

CONFIGS = Path(__file__).parents[2] / 'configs'
SEGMENTOR = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=8, depths=(1, 1, 1, 1)), init_cfg=None),
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=8),
    auxiliary_head=dict(in_channels=32, channels=8),
)
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='data/ADEChallengeData2016',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    ),
)
"""
CLASSIFIER = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=8, depths=(1, 1, 1, 1))),
    head=dict(in_channels=64, num_classes=5),
)
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='drawn/imagenet',
        num_classes=5,
        pipeline=[dict(type='mmvim.LoadForClassifier', resize=72, crop=64)],
    ),
)
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configs, checkpoints with random weights, data, and an exported segmentor of open size."""
    folder = tmp_path_factory.mktemp('place')
    ensure_miniature('ade20k', folder / 'data', train=1, val=2, size=(64, 96), progress=False)
    ensure_miniature('imagenet', folder / 'drawn', train=1, val=5, size=(80, 80), progress=False)
    texts = {
        'segmentor': SEGMENTOR.format(base=str(CONFIGS / 'vmamba/upernet_vmamba_t_ade20k.py')),
        'classifier': CLASSIFIER.format(base=str(CONFIGS / 'vmamba/vmamba_t_imagenet.py')),
    }
    for name, text in texts.items():
        (folder / f'{name}.py').write_text(text)
        cfg = load_config(folder / f'{name}.py')
        torch.manual_seed(0)
        model = build_untrained(cfg.model, cfg.get('default_scope'))
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
    cv2.imwrite(str(folder / 'picture.png'), np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ['--to', 'onnx', '--out', 'files', '--min-size', '64x64', '--max-size', '128x128']
        assert main(['segmentor.py', 'segmentor.pth', *options]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv('LOCAL_RANK', '0')


def measured(work_dir: str) -> dict:
    """What a test wrote down."""
    return json.loads(max(Path(work_dir).glob('*/*.json')).read_text())


def test_the_description_is_all_that_a_program_needs() -> None:
    about = json.loads(Path('files/segmentor.onnx.json').read_text())
    assert about['input'] | {'layout': ''} == {
        'name': 'image',
        'layout': '',
        'dtype': 'float32',
        'channels': 'RGB',
        'mean': [123.675, 116.28, 103.53],
        'std': [58.395, 57.12, 57.375],
        'sizes': {'smallest': [64, 64], 'largest': [128, 128], 'multiple_of': 32},
    }
    assert about['outputs'] == ['logits'] and about['scan'] == 'scan' and about['weights'] == 'float32'
    assert len(about['classes']) == len(about['palette']) == 150 and about['classes'][0] == 'wall'


def test_the_demo_draws_the_same() -> None:
    assert demo(['picture.png', 'segmentor.py', 'segmentor.pth', '--out', 'ours']) == 0
    assert demo(['picture.png', 'files/segmentor.onnx', '--out', 'theirs']) == 0
    assert Path('ours/picture.png').read_bytes() == Path('theirs/picture.png').read_bytes()


def test_the_same_miou() -> None:
    evaluate(['segmentor.py', 'segmentor.pth', '--work-dir', 'ours'])
    evaluate(['segmentor.py', 'files/segmentor.onnx', '--runtime', '--work-dir', 'theirs'])
    ours, theirs = measured('ours'), measured('theirs')
    assert 'mIoU' in ours
    assert {key: ours[key] for key in ('mIoU', 'mAcc', 'aAcc')} == {
        key: theirs[key] for key in ('mIoU', 'mAcc', 'aAcc')
    }


def test_a_classifier_of_fixed_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['classifier.py', 'classifier.pth', '--to', 'openvino', '--out', 'files', '--size', '64x64']) == 0
    assert '100.000 %' in capsys.readouterr().out
    evaluate(['classifier.py', 'classifier.pth', '--work-dir', 'ours_c'])
    evaluate(['classifier.py', 'files/classifier.xml', '--runtime', '--work-dir', 'theirs_c'])
    assert measured('ours_c')['accuracy/top1'] == measured('theirs_c')['accuracy/top1']
    with pytest.raises(UserError, match='64 x 64, not 32 x 64'):
        Exported('files/classifier.xml').classify(torch.rand(1, 3, 32, 64))


def test_larger_images_go_through_a_file_of_one_size_by_windows() -> None:
    assert main(['segmentor.py', 'segmentor.pth', '--to', 'exported', '--out', 'files', '--size', '64x64']) == 0
    evaluate(['segmentor.py', 'files/segmentor.pt2', '--runtime', '--work-dir', 'windows'])
    options = ['model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(64,64)', 'model.test_cfg.stride=(42,42)']
    evaluate(['segmentor.py', 'segmentor.pth', '--work-dir', 'slides', '--cfg-options', *options])
    assert measured('windows')['mIoU'] == measured('slides')['mIoU']


def test_maps_in_front_of_heads(capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--to', 'onnx', '--out', 'files', '--size', '64x96', '--part', 'backbone', '--half']
    assert main(['segmentor.py', 'segmentor.pth', *options]) == 0
    assert 'gives 4 maps of the backbone; the heads are not in it' in capsys.readouterr().out
    maps = Exported('files/segmentor_backbone.onnx')(torch.rand(1, 3, 64, 96))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]


def test_a_file_that_computes_something_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Exported.__call__

    def wrong(exported: Exported, image: torch.Tensor) -> list:
        return [output * 1.01 for output in run(exported, image)]

    monkeypatch.setattr(compare.Exported, '__call__', wrong)
    assert main(['segmentor.py', 'segmentor.pth', '--to', 'exported', '--out', 'wrong', '--size', '64x64']) == 1
    assert 'differs from the model by more than 0.0001' in capsys.readouterr().out


FIXED = ['segmentor.py', 'segmentor.pth', '--out', 'bad', '--size', '64x64', '--to']


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere.py', '--to', 'onnx', '--out', 'bad'], 'no config nowhere.py'),
        (['segmentor.py', '--to', 'onnx', '--out', 'bad'], 'name a checkpoint'),
        (['segmentor.py', 'classifier.pth', '--to', 'onnx', '--out', 'bad'], 'classifier.pth'),
        (['segmentor.py', 'segmentor.pth', '--to', 'onnx', '--out', 'segmentor.py/x'], 'name another folder'),
        ([*FIXED, 'openvino', '--scan', 'scan'], 'OpenVINO has plain and kernels only'),
        ([*FIXED, 'aoti', '--half'], 'keeps fp32'),
        ([*FIXED, 'exported', '--int8'], '--int8 is for onnx and openvino'),
        ([*FIXED, 'onnx', '--min-size', '32x32'], 'take either'),
        (['segmentor.py', 'segmentor.pth', '--to', 'onnx', '--out', 'bad', '--min-size', '64x64'], 'needs both'),
        (
            [
                'segmentor.py',
                'segmentor.pth',
                '--to',
                'onnx',
                '--out',
                'bad',
                '--min-size',
                '60x64',
                '--max-size',
                '128',
            ],
            'multiples of 32',
        ),
        (
            ['segmentor.py', 'segmentor.pth', '--to', 'onnx', '--out', 'bad', '--min-size', '128', '--max-size', '64'],
            'not below',
        ),
        (
            [
                'segmentor.py',
                'segmentor.pth',
                '--to',
                'openvino',
                '--out',
                'bad',
                '--min-size',
                '64',
                '--max-size',
                '96',
            ],
            'fixes the number of steps',
        ),
        (['segmentor.py', 'segmentor.pth', '--to', 'onnx', '--out', 'bad', '--size', '2x2'], 'below 32x32'),
        (['segmentor.py', 'segmentor.pth', '--to', 'onnx', '--out', 'bad', '--part', 'neck'], 'take --part backbone'),
    ],
)
def test_bad_input(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        main(arguments)
    assert not list(Path().glob('bad/*'))


def test_detectors_give_what_is_in_front_of_their_heads(place: Path) -> None:
    cfg = load_config(CONFIGS / 'demo/mask_rcnn_vmamba_miniature.py')
    torch.save({'state_dict': build_untrained(cfg.model, 'mmdet').state_dict()}, 'detector.pth')
    arguments = [
        str(CONFIGS / 'demo/mask_rcnn_vmamba_miniature.py'),
        'detector.pth',
        '--to',
        'exported',
        '--out',
        'files',
    ]
    with pytest.raises(UserError, match='take --part neck'):
        main(arguments)
    assert main([*arguments, '--size', '64x64', '--part', 'neck']) == 0
    about = json.loads(Path('files/mask_rcnn_vmamba_miniature_neck.pt2.json').read_text())
    assert about['task'] == 'maps' and 'classes' not in about


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    monkeypatch.setattr('mmvim.commands.export.find_spec', lambda name: None if name == 'onnxruntime' else name)
    with pytest.raises(UserError, match=r'onnxruntime: pip install .*\[export\]'):
        main([*FIXED, 'onnx'])
    with pytest.raises(UserError, match=r'onnxruntime, which is not installed: pip install .*\[export\]'):
        Exported('files/segmentor.onnx')


def test_files_that_are_none(tmp_path: Path) -> None:
    onnx = tmp_path / 'model.onnx'
    with pytest.raises(UserError, match='there is no file'):
        demo(['picture.png', str(onnx), '--out', 'bad'])
    onnx.write_bytes(b'not ONNX')
    with pytest.raises(UserError, match='copy it along'):
        Exported(onnx)
    description_of(onnx).write_text('{"format": "onnx"}')
    with pytest.raises(UserError, match='no description'):
        Exported(onnx)
    description_of(onnx).write_bytes(Path('files/segmentor.onnx.json').read_bytes())
    with pytest.raises(UserError, match='cannot be opened'):
        Exported(onnx)
    for arguments, sentence in (
        (['segmentor.py', 'files/segmentor.onnx'], 'add --runtime'),
        (['segmentor.py', 'segmentor.pth', '--runtime'], 'leave --runtime out'),
        (['segmentor.py', 'files/segmentor.onnx', '--runtime', '--amp'], 'leave --amp out'),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate(arguments)
    with pytest.raises(UserError, match='leave --amp out'):
        demo(['picture.png', 'files/segmentor.onnx', '--amp', '--out', 'bad'])


def test_code_in_a_description_is_not_run(tmp_path: Path) -> None:
    about = json.loads(Path('files/segmentor.onnx.json').read_text())
    onnx, ran = tmp_path / 'model.onnx', tmp_path / 'ran'
    onnx.write_bytes(b'')
    about['config'] = f'open({str(ran)!r}, "w")'
    description_of(onnx).write_text(json.dumps(about))
    with pytest.raises(UserError, match='no description'):
        Exported(onnx)
    assert not ran.exists()


def test_the_config_is_kept_exactly() -> None:
    cfg, kept = load_config('segmentor.py'), Exported('files/segmentor.onnx').description['config']
    assert Config(kept).model == cfg.model and Config(kept).test_dataloader == cfg.test_dataloader
