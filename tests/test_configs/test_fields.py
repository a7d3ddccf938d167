"""The benchmarks of docs/fields.md: configs that fit their data sets, and miniatures of these."""

import re
from pathlib import Path

import cv2
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from rich.console import Console

from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.commands import check_data as command
from mmvim.commands.train import train
from mmvim.miniature.above import render_from_above
from mmvim.miniature.categories import SCENE_CLASSES
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.layouts import LAYOUTS
from mmvim.miniature.scenes import render_scene
from mmvim.preflight.data.places import inner_datasets

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ('aerial', 'driving', 'medical')
CONFIGS = {path.stem: path for field in FIELDS for path in sorted(ROOT.glob(f'configs/{field}/*.py'))}
BACKBONES = ('vmamba_t', 'vmamba_s', 'vim_s')


def tiny(kind: str) -> Config:
    """VMamba-T's config of a benchmark with one narrow block a stage, small pictures and two training steps."""
    cfg = Config.fromfile(CONFIGS[f'upernet_vmamba_t_{kind}'])
    cfg.model.backbone.update(arch={'embed_dims': 16, 'depths': (1, 1, 1, 1)}, init_cfg=None)
    cfg.model.decode_head.update(in_channels=[16, 32, 64, 128], channels=16)
    cfg.model.auxiliary_head.update(in_channels=64, channels=16)
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.interval = 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            step.update({key: (64, 64) for key in ('scale', 'crop_size') if key in step})
    cfg.train_dataloader.batch_size = 2
    return cfg


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the miniature of a kind where the configs look for it, and the tiny config."""
    monkeypatch.chdir(tmp_path)
    kind = request.param
    ensure_miniature(kind, LAYOUTS[kind].root, train=6, val=3, size=(64, 64), progress=False)
    tiny(kind).dump(f'{kind}.py')
    return tmp_path


each_kind = pytest.mark.parametrize(('place', 'kind'), [(kind, kind) for kind in LAYOUTS], indirect=['place'])


def test_every_benchmark_has_its_configs() -> None:
    assert set(CONFIGS) == {f'upernet_{backbone}_{kind}' for kind in LAYOUTS for backbone in BACKBONES}


@pytest.mark.parametrize('kind', LAYOUTS)
def test_the_page_has_every_benchmark(kind: str) -> None:
    layout, field = LAYOUTS[kind], CONFIGS[f'upernet_vim_s_{kind}'].parent.name
    name = 'CITY/NAME' if kind == 'cityscapes' else 'NAME'
    splits = f'{{{",".join(layout.splits)}}}'
    paths = (f'`{layout.root}/{path.format(split=splits, name=name)}`' for path in (layout.image, layout.label))
    row = ' | '.join((layout.title, f'`upernet_*_{kind}.py` in `configs/{field}`', f'`{kind}`', *paths))
    assert f'| {row} |' in (ROOT / 'docs/fields.md').read_text()


@pytest.mark.parametrize('name', CONFIGS)
def test_config_fits_its_data_set(name: str) -> None:
    cfg = Config.fromfile(CONFIGS[name])
    (layout,) = (layout for kind, layout in LAYOUTS.items() if name.endswith(f'_{kind}'))
    init_default_scope(cfg.default_scope)
    classes = DATASETS.get(f'{cfg.default_scope}.{layout.dataset}').METAINFO['classes']
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert (loader.dataset.type, loader.dataset.data_root) == (layout.dataset, layout.root)
        assert [step.type for step in loader.dataset.pipeline][:1] == ['LoadImageFromFile']
    assert {cfg.model[head].num_classes for head in ('decode_head', 'auxiliary_head')} == {len(classes)}
    crops = [step.crop_size for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop']
    size = crops[0] if crops else (224, 224)
    assert cfg.model.data_preprocessor.size == size
    if cfg.model.test_cfg.mode == 'slide':
        assert cfg.model.test_cfg.crop_size == size and max(cfg.model.test_cfg.stride) < max(size)
    # One length, and one batch: 4 GPUs, as the comment says.
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 10 * cfg.train_cfg.val_interval
    assert cfg.auto_scale_lr.base_batch_size == 4 * cfg.train_dataloader.batch_size
    assert cfg.val_evaluator.iou_metrics == [cfg.default_hooks.checkpoint.save_best]
    backbone = cfg.model.backbone
    # The weights of that backbone, as its config for ADE20K names them.
    variant = re.fullmatch(r'upernet_([a-z]+_[a-z])_.*', name)[1]
    known = Config.fromfile(ROOT / f'configs/{variant[:-2]}/upernet_{variant}_ade20k.py').model.backbone
    assert backbone == known and Path(backbone.init_cfg.checkpoint).name in OFFICIAL_WEIGHTS


@pytest.mark.parametrize('kind', LAYOUTS)
def test_pipelines_are_those_of_mmseg(kind: str) -> None:
    ours = Config.fromfile(ROOT / f'configs/_base_/datasets/{kind}.py')
    theirs = Config.fromfile(Path(mmseg.__file__).parent / f'.mim/configs/_base_/datasets/{kind}.py')
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert ours.val_evaluator == theirs.val_evaluator
    for stage in ('train', 'val', 'test'):
        mine, known = (next(inner_datasets(cfg[f'{stage}_dataloader'].dataset)) for cfg in (ours, theirs))
        for step in known.pipeline:
            step.pop('reduce_zero_label', None)  # which the data set tells the step
        assert mine.pop('data_root') == known.pop('data_root').rstrip('/')
        assert mine == known


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name: str) -> None:
    """The heads take the maps of the backbone."""
    cfg = Config.fromfile(CONFIGS[name])
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    with torch.device('meta'), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        logits = model.encode_decode(torch.zeros(1, 3, 64, 96), [{'img_shape': (64, 96)}])
    assert logits.shape == (1, cfg.model.decode_head.num_classes, 64, 96)


@each_kind
def test_check_data_passes(place: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(command, 'Console', lambda **options: Console(width=200, **options))
    command.check_data([f'{kind}.py', '--stage', 'train', 'val'])
    said = capsys.readouterr().out
    assert 'error' not in said and 'warning' not in said, said


@each_kind
def test_training_and_validation(place: Path, kind: str) -> None:
    train([f'{kind}.py', '--work-dir', 'run'])
    (log,) = (place / 'run').glob('*/*.log')
    metric = Config.fromfile(f'{kind}.py').default_hooks.checkpoint.save_best
    assert re.search(rf'Iter\(val\) .*{metric}: \d', log.read_text())
    assert (place / 'run/iter_2.pth').is_file() and list((place / 'run').glob(f'best_{metric}*'))


@each_kind
def test_labels_are_those_of_the_scenes(place: Path, kind: str) -> None:
    """Read through mmseg, every pixel has the class that its layout gives to what was drawn there, or is left out."""
    cfg, layout = Config.fromfile(f'{kind}.py'), LAYOUTS[kind]
    init_default_scope(cfg.default_scope)
    for split, loader in enumerate((cfg.train_dataloader, cfg.val_dataloader)):
        steps = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
        dataset = DATASETS.build({**loader.dataset, 'pipeline': steps})
        assert len(dataset) == (6, 3)[split]
        names = [layout.names[split].format(2 * index + 1 + split) for index in range(len(dataset))]
        files = [place / layout.root / layout.image.format(split=layout.splits[split], name=name) for name in names]
        for sample in map(dataset.__getitem__, range(len(dataset))):
            index = files.index(Path(sample['img_path']).resolve())
            render = render_from_above if layout.from_above else render_scene
            scene = render(np.random.default_rng([0, split, index]), 64, 64)
            expected = np.full_like(scene.labels, layout.unknown)
            for name, ids in SCENE_CLASSES.items():
                if ids.ade20k:
                    expected[scene.labels == ids.ade20k] = layout.values.get(name, layout.rest)
            if dataset.reduce_zero_label:
                expected = np.where(expected == 0, 255, expected - 1)
            assert (sample['gt_seg_map'] == expected).all()
            assert set(np.unique(expected)) <= {*range(len(dataset.metainfo['classes'])), 255}
            picture = sample['img']
            assert (picture == picture[..., :1]).all() == layout.grey
            shown = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(int)
            assert np.abs(shown - cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY)).mean() < 12
