"""Run ``tools/train.py`` or ``tools/test.py`` with their arguments on small images and for two iterations.

Everything else is as the command says: the config, its model, its weights, its data, its hooks.
"""

import runpy
import sys

from mmengine.config import Config

from mmvim.commands import options
from tools.check_configs import shrink

_load_config = options.load_config


def load_config(*args) -> Config:
    """The config of the command, cut short."""
    cfg = _load_config(*args)
    for loader in filter(None, map(cfg.get, ('train_dataloader', 'val_dataloader', 'test_dataloader'))):
        loader.update(num_workers=0, persistent_workers=False)
        dataset = loader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        dataset.indices = 2
        shrink(dataset.pipeline)
    cfg.train_dataloader.batch_size = 2
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (128, 128)
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2}
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    return cfg


if __name__ == '__main__':
    options.load_config = load_config
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
