"""What pretraining without labels is worth: mIoU of one segmentor with and without it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config

from mmvim.engine.runner import Runner


def miou(config: str | Path, checkpoint: str | Path) -> float:
    """mIoU in percent of a trained segmentor on the test images of its config, by the metric that is named there.

    In a process of its own each: a second runner in one process writes where the first had its logs.
    """
    cfg = Config.fromfile(config)
    cfg.model.backbone.init_cfg = None  # all weights are in the checkpoint
    with TemporaryDirectory() as logs:
        cfg.merge_from_dict({'work_dir': logs, 'log_level': 'ERROR', 'load_from': None, 'resume': False})
        runner = Runner.from_cfg(cfg)
        runner.load_checkpoint(str(checkpoint))
        return float(runner.test()['mIoU'])
