"""Rotated boxes: DOTA's miniature, its check, and the configs of configs/rotated, trained, measured and drawn."""

import json
import multiprocessing.dummy
import pickle
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, declare_operators
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData
from rich.console import Console

from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.commands import check_data as command
from mmvim.commands.demo import main as demo
from mmvim.commands.test import test as run_test
from mmvim.commands.train import train
from mmvim.errors import UserModuleNotFoundError
from mmvim.inference.inferencer import build_inferencer, draw
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.oriented import KINDS, render_oriented
from mmvim.models.build import build_untrained
from mmvim.preflight.finding import demand
from mmvim.preflight.packages import check_packages

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: path for path in sorted(ROOT.glob('configs/rotated/*.py'))}
DATA = 'data/split_ss_dota'


@pytest.fixture(scope='module', autouse=True)
def mmrotate() -> None:
    """mmrotate, with the torchvision that ``make test`` keeps apart; it imports it, and flips with it one detector."""
    sys.path.append(str(ELSEWHERE))
    try:
        declare_operators()
        import mmrotate.evaluation.functional.mean_ap
        import mmrotate.models  # noqa: F401
    finally:
        sys.path.remove(str(ELSEWHERE))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the miniature and a tiny form of each config."""
    from mmrotate.evaluation.functional import mean_ap

    # It counts hits in four new processes, each of which would import everything again.
    monkeypatch.setattr(mean_ap, 'get_context', lambda _: multiprocessing.dummy)
    monkeypatch.chdir(tmp_path)
    ensure_miniature('dota', DATA, train=4, val=2, size=(96, 96), progress=False)
    for name, path in CONFIGS.items():
        tiny(path).dump(f'{name}.py')
    return tmp_path


def tiny(path: Path) -> Config:
    """A config with one narrow block a stage, small pictures and two training steps."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.update(arch={'embed_dims': 16, 'depths': (1, 1, 1, 1)}, init_cfg=None)
    cfg.model.neck.in_channels = [16, 32, 64, 128]
    (cfg.model.test_cfg.get('rcnn') or cfg.model.test_cfg).max_per_img = 20
    if 'rpn' in cfg.model.test_cfg:
        cfg.model.train_cfg.rpn_proposal.max_per_img = cfg.model.test_cfg.rpn.max_per_img = 50
    cfg.train_cfg.update(max_epochs=1)
    cfg.param_scheduler = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            step.update({key: (96, 96) for key in ('scale',) if key in step})
    return cfg


def test_there_are_both() -> None:
    assert set(CONFIGS) == {'oriented_rcnn_vmamba_t_dota', 'rotated_fcos_vmamba_t_dota'}


@pytest.mark.parametrize(
    ('name', 'theirs'),
    [
        ('oriented_rcnn_vmamba_t_dota', 'oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota'),
        ('rotated_fcos_vmamba_t_dota', 'rotated_fcos/rotated-fcos-le90_r50_fpn_1x_dota'),
    ],
)
def test_config_is_mmrotates_but_for_the_backbone(name: str, theirs: str) -> None:
    import mmrotate

    ours, known = Config.fromfile(CONFIGS[name]), Config.fromfile(f'{mmrotate.__path__[0]}/.mim/configs/{theirs}.py')
    weights = ours.model.backbone.init_cfg.checkpoint
    assert Path(weights).name in OFFICIAL_WEIGHTS
    for cfg in (ours, known):
        cfg.model.pop('backbone'), cfg.model.neck.pop('in_channels')
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.pop('ann_file'), loader.dataset.pop('data_prefix')
            for step in loader.dataset.pipeline:
                step.type = step.type.removeprefix('mmdet.')
                step.pop('backend_args', None)
    assert ours.model == known.model and ours.angle_version == known.angle_version
    assert ours.train_dataloader == known.train_dataloader and ours.val_dataloader == known.val_dataloader
    assert ours.val_evaluator == known.val_evaluator and ours.train_cfg == known.train_cfg
    assert ours.param_scheduler[1] == known.param_scheduler[1]
    assert ours.auto_scale_lr.base_batch_size == 8 * ours.train_dataloader.batch_size


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name: str) -> None:
    """Neck and heads take the maps of the whole backbone."""
    cfg = Config.fromfile(CONFIGS[name])
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        maps = model.extract_feat(torch.zeros(1, 3, 128, 64))
    head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
    strides = [stride[0] if isinstance(stride, tuple) else stride for stride in head.prior_generator.strides]
    assert [tuple(x.shape[1:]) for x in maps] == [(256, -(-128 // stride), -(-64 // stride)) for stride in strides]


@pytest.mark.parametrize('name', CONFIGS)
def test_training_measuring_and_drawing(name: str, place: Path, capsys: pytest.CaptureFixture) -> None:
    train([f'{name}.py', '--work-dir', 'run'])
    (log,) = (place / 'run').glob('*/*.log')
    assert re.search(r'Epoch\(val\) .*dota/mAP: \d', log.read_text())
    image = next(Path(DATA, 'val/images').glob('*.png'))
    arguments = [str(image), f'{name}.py', 'run/epoch_1.pth', '--score-thr', '0']
    assert demo(arguments) == 0, capsys.readouterr().out
    assert (cv2.imread(f'outputs/{image.stem}.png') != cv2.imread(str(image))).mean() > 0.01


def test_windows_and_kept_predictions(place: Path, capsys: pytest.CaptureFixture) -> None:
    """Of a model that has learned nothing: files, and what is in them."""
    name = 'rotated_fcos_vmamba_t_dota'
    model = build_untrained(Config.fromfile(f'{name}.py').model, 'mmrotate')
    torch.save({'state_dict': model.state_dict()}, 'random.pth')
    image = next(Path(DATA, 'val/images').glob('*.png'))
    assert demo([str(image), f'{name}.py', 'random.pth', '--score-thr', '0', '--window', '64']) == 0
    objects = json.loads(Path(f'outputs/{image.stem}.json').read_text())['annotations']
    assert objects and all(len(one['segmentation'][0]) == 8 for one in objects)
    run_test([f'{name}.py', 'random.pth', '--work-dir', 'test', '--out', 'found.pkl'])
    assert len(pickle.loads(Path('found.pkl').read_bytes())) == 2


def test_a_box_beyond_the_image_leaves_the_picture_in_its_place(place: Path) -> None:
    cfg = Config.fromfile('rotated_fcos_vmamba_t_dota.py')
    torch.save({'state_dict': build_untrained(cfg.model, 'mmrotate').state_dict()}, 'random.pth')
    inferencer = build_inferencer(cfg, 'random.pth', 'cpu')
    image = cv2.imread(str(next(Path(DATA, 'val/images').glob('*.png'))))
    box = InstanceData(
        bboxes=torch.tensor([[0.0, 20, 40, 10, 0.5]]), scores=torch.tensor([0.9]), labels=torch.tensor([0])
    )
    picture = draw(inferencer, image, BaseDataElement(pred_instances=box))
    np.testing.assert_array_equal(picture[60:], image[60:])
    assert (picture[:60] != image[:60]).any()


def test_mmrotate_reads_what_was_drawn(place: Path) -> None:
    cfg = Config.fromfile(next(iter(CONFIGS.values())))
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
    samples = {sample['img_id']: sample for sample in map(dataset.get_data_info, range(len(dataset)))}
    assert len(samples) == 4
    for index in range(4):
        sample = samples[f'P{2 * index + 1:04d}__96__0___0']
        image, objects = render_oriented(np.random.default_rng([0, 0, index]), 96, 96)
        np.testing.assert_array_equal(cv2.imread(sample['img_path'])[..., ::-1], image)
        names = [dataset.metainfo['classes'][one['bbox_label']] for one in sample['instances']]
        assert names == [one.name for one in objects] and set(names) <= set(KINDS)
        for read, one in zip(sample['instances'], objects, strict=True):
            np.testing.assert_allclose(np.array(read['bbox']).reshape(4, 2), one.corners, atol=0.051)


def test_boxes_of_the_miniature_are_boxes_around_what_is_there() -> None:
    """Sides at right angles, clockwise, most of it in the picture; cut off ones are marked."""
    seen = set()
    for seed in range(20):
        _, objects = render_oriented(np.random.default_rng(seed), 96, 128)
        for one in objects:
            sides = np.roll(one.corners, -1, axis=0) - one.corners
            np.testing.assert_allclose((sides * np.roll(sides, -1, axis=0)).sum(axis=1), 0, atol=1e-9)
            following = np.roll(sides, -1, axis=0)
            assert (sides[:, 0] * following[:, 1] > sides[:, 1] * following[:, 0]).all()
            inside = ((one.corners >= 0) & (one.corners <= (128, 96))).all()
            assert one.difficulty == (0 if inside else 2)
            seen.add((one.name, one.difficulty))
    assert {name for name, _ in seen} == set(KINDS) and {difficulty for _, difficulty in seen} == {0, 2}


def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *more: str) -> tuple[bool, str]:
    """Whether check_data passes, and what it says."""
    monkeypatch.setattr(command, 'Console', lambda **options: Console(width=220, **options))
    try:
        command.check_data(['rotated_fcos_vmamba_t_dota.py', '--stage', 'train', 'val', *more])
    except SystemExit:
        return False, capsys.readouterr().out
    return True, capsys.readouterr().out


def test_check_data_passes(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    passed, said = check(monkeypatch, capsys, '--out', 'shown')
    assert passed and 'error' not in said and 'warning' not in said, said
    assert re.search(r'images +4\n', said) and '96 x 96' in said and 'plane' in said
    pictures = [cv2.imread(str(path)) for path in Path('shown/train').glob('P*.png')]
    assert len(pictures) == 4 and all(picture.shape == (576, 576, 3) for picture in pictures)


def test_check_data_names_what_is_wrong(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    texts = sorted(Path(DATA, 'train/annfiles').glob('*.txt'))
    texts[0].write_text('imagesource:GoogleEarth\ngsd:0.1\n')
    texts[1].write_text(
        '1 1 9 1 9 9 1 9 plane\n1 1 9 1 9 9 1 nan plane 0\n1 1 9 1 9 9 1 9 zeppelin 0\n1 1 9 1 9 1 1 1 ship 0\n'
    )
    texts[2].write_text('200 200 220 200 220 220 200 220 ship 0\n')
    Path(DATA, 'train/images', f'{texts[3].stem}.png').unlink()
    for text in Path(DATA, 'val/annfiles').glob('*.txt'):
        text.unlink()
    passed, said = check(monkeypatch, capsys)
    assert not passed
    for expected in (
        'with lines on source and scale', 'img_split.py', r'line 1: .1 1 9 1 9 9 1 9 plane.', 'line 2: .*nan plane 0',
        'line 3: zeppelin', 'without an area', r'at 210, 210 of 96 x 96', 'images that are missing',
        r'without a single \.txt',
    ):  # fmt: skip
        assert re.search(expected, said), f'{expected}\n{said}'


def test_training_stops_at_faults(place: Path) -> None:
    next(Path(DATA, 'train/annfiles').glob('*.txt')).write_text('1 1 9 1 9 9 1 9 zeppelin 0\n')
    with pytest.raises(ValueError, match='classes that the data set does not have: .*line 1: zeppelin; correct them'):
        train(['rotated_fcos_vmamba_t_dota.py', '--work-dir', 'run'])


def test_a_torchvision_that_does_not_fit_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    cfg = Config.fromfile(CONFIGS['rotated_fcos_vmamba_t_dota'])
    with pytest.raises(UserModuleNotFoundError, match='need a torchvision that fits torch.*; install torchvision from'):
        demand(check_packages(cfg), UserModuleNotFoundError)
