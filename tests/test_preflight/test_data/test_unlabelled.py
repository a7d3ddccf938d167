"""A test set without labels is predicted on; a metric says that it has none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from test_engine.toy_run import config

from mmvim.commands.test import test as run_test
from mmvim.errors import UserValueError
from mmvim.preflight.data.unlabelled import test_without_labels as without_labels

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]


def write(place: Path, prefix: dict, pipeline: list = LOAD) -> Config:
    """A config that tests on two images without labels."""
    (place / 'images').mkdir()
    for number in range(2):
        Image.fromarray(np.full((32, 40, 3), 90 * number, dtype=np.uint8)).save(place / f'images/a{number}.jpg')
    cfg = config(str(place / 'run'))
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.custom_hooks = []
    cfg.default_hooks.pop('exact_resume')
    cfg.test_cfg = {}
    cfg.test_evaluator = {'type': 'IoUMetric'}
    cfg.test_dataloader = {
        'batch_size': 1,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': {
            'type': 'BaseSegDataset',
            'data_root': str(place),
            'data_prefix': prefix,
            'metainfo': {'classes': ('a', 'b', 'c')},
            'pipeline': pipeline,
            'test_mode': True,
        },
    }
    return cfg


@pytest.mark.parametrize('prefix', [{'img_path': 'images'}, {'img_path': 'images', 'seg_map_path': 'nowhere'}])
def test_predictions_are_kept(tmp_path, prefix):
    from mmengine.registry import MODELS, DefaultScope
    from mmseg.utils import register_all_modules

    cfg = write(tmp_path, prefix)
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'model.pth')
    cfg.dump(tmp_path / 'config.py')
    arguments = [str(tmp_path / 'config.py'), str(tmp_path / 'model.pth'), '--work-dir', str(tmp_path / 'run')]
    run_test([*arguments, '--out', str(tmp_path / 'out')])
    for number in range(2):
        assert np.array(Image.open(tmp_path / f'out/a{number}.png')).shape == (32, 40)


@pytest.mark.parametrize('pipeline', [LOAD, [LOAD[0], LOAD[2]]])
def test_a_metric_says_that_it_has_none(tmp_path, pipeline):
    cfg = write(tmp_path, {'img_path': 'images'}, pipeline)
    with pytest.raises(UserValueError, match='no labels, so IoUMetric has nothing to compare .*--out FOLDER'):
        without_labels(cfg, None)


def test_labels_are_left_alone(tmp_path):
    cfg = write(tmp_path, {'img_path': 'images', 'seg_map_path': 'masks'})
    before = cfg.pretty_text
    assert not without_labels(cfg, None)
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks/a0.png').write_bytes(b'')
    assert not without_labels(cfg, 'out')
    assert cfg.pretty_text == before


def test_nested_steps_go_as_well(tmp_path):
    cfg = write(tmp_path, {'img_path': 'images'})
    inner = [[{'type': 'RandomFlip', 'prob': 0.0}], [{'type': 'LoadAnnotations'}], [{'type': 'PackSegInputs'}]]
    cfg.tta_pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'TestTimeAug', 'transforms': inner}]
    assert without_labels(cfg, 'out')
    assert cfg.tta_pipeline[1]['transforms'] == [inner[0], inner[2]]
