"""A run of masked-image modelling that is killed and resumed ends as the run that was not, to the bit."""

import signal
from pathlib import Path

import pytest
from test_engine.test_exact_resume import assert_same_training
from test_engine.toy_run import run_toys

BACKBONES = {
    'plain': {
        'type': 'mmvim.Vim', 'out_indices': -1, 'drop_path_rate': 0.3, 'pretrain_img_size': 32, 'final_norm': True,
        'arch': {'embed_dims': 16, 'depth': 2, 'patch_size': 8, 'patch_stride': 8},
    },
    'staged': {
        'type': 'mmvim.VMamba', 'out_indices': 1, 'drop_path_rate': 0.3, 'arch': {'embed_dims': 16, 'depths': (1, 1)},
    },
}  # fmt: skip


def run(work_dir: Path, backbone: dict, **others) -> dict:
    """Twenty iterations over random pieces of six images, masks drawn by the model."""
    pipeline = [
        {'type': 'mmvim.RandomResizedCrop', 'scale': 32},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'mmvim.PackImage'},
    ]
    return {
        'work_dir': str(work_dir),
        'default_scope': 'mmengine',
        'model': {
            'type': 'mmvim.SimMIM', 'mask_patch_size': 8, 'backbone': backbone,
            'data_preprocessor': {'type': 'ImgDataPreprocessor', 'mean': [127.0] * 3, 'std': [60.0] * 3},
        },
        'train_dataloader': {
            'batch_size': 2, 'num_workers': others.pop('workers', 0), 'collate_fn': {'type': 'default_collate'},
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
            'dataset': {'type': 'ToyImages', 'pipeline': pipeline},
        },
        'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None,
        'default_hooks': {
            'logger': {'type': 'LoggerHook', 'interval': 5},
            'checkpoint': {'type': 'mmvim.SafeCheckpointHook', 'by_epoch': False, 'interval': 10},
            'exact_resume': {'type': 'mmvim.ExactResumeHook'},
        },
        **others,
    }  # fmt: skip


@pytest.mark.parametrize('kind', BACKBONES)
def test_twenty_iterations_equal_ten_and_a_kill_and_ten(kind: str, tmp_path: Path) -> None:
    backbone = BACKBONES[kind]
    signals = run_toys(
        run(tmp_path / 'whole', backbone),
        run(tmp_path / 'cut', backbone, workers=2, kill={'after': 13}),
        run(tmp_path / 'cut', backbone, workers=2, resume=True),
    )
    assert signals == [0, signal.SIGKILL, 0]
    assert_same_training(tmp_path / 'cut/iter_20.pth', tmp_path / 'whole/iter_20.pth')
