"""The report of the detection demo measures what it says."""

import json
import runpy
import sys
from pathlib import Path

import mmcv
import pytest
import torch
from mmdet.models import TwoStageDetector
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from mmvim.analysis.detection_report import report
from mmvim.miniature.data_sets import ensure_miniature

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's config on few images, and weights for it."""
    folder = tmp_path_factory.mktemp('demo')
    ensure_miniature('coco', folder / 'data', train=4, val=3, size=(128, 128), progress=False)
    cfg = Config.fromfile(REPOSITORY / 'configs/demo/mask_rcnn_vmamba_miniature.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / 'data')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(folder / 'data/annotations/instances_val2017.json')
    cfg.dump(folder / 'short.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, folder / 'weights.pth')
    return folder


def test_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    arguments = ['demo_det_report.py', str(folder / 'short.py'), str(folder / 'weights.pth')]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(REPOSITORY / 'tools/demo_det_report.py'), run_name='__main__')
    printed = capsys.readouterr().out
    found = json.loads((folder / 'report/report.json').read_text())
    assert set(found) == {'untrained', 'trained'} and set(found['trained']) == {'box', 'mask'}
    assert all(0 <= value < 0.1 for row in found.values() for value in row.values())  # neither is trained
    pictures = sorted((folder / 'report').glob('*.png'))
    assert len(pictures) == 3 and all(picture.name in printed for picture in pictures)
    assert 'the same model, untrained' in printed
    assert mmcv.imread(pictures[0]).shape == (384, 768, 3)  # truth and prediction


def test_a_model_that_knows_everything(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(self, inputs: torch.Tensor, samples: list, rescale: bool = True) -> list:
        for sample in samples:
            truth = sample.gt_instances
            sample.pred_instances = InstanceData(
                bboxes=truth.bboxes.tensor if hasattr(truth.bboxes, 'tensor') else truth.bboxes,
                labels=truth.labels,
                scores=torch.ones(len(truth)),
                masks=torch.from_numpy(truth.masks.to_ndarray()).bool(),
            )
        return samples

    monkeypatch.setattr(TwoStageDetector, 'predict', predict)
    found, _ = report(folder / 'short.py', folder / 'weights.pth', tmp_path, pictures=0)
    assert found['trained'] == pytest.approx({'box': 1.0, 'mask': 1.0})
