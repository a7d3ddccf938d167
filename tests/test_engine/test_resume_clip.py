"""A run of images with captions that is killed and resumed ends as the run that was not, to the bit."""

import signal
from pathlib import Path

from test_engine.test_exact_resume import assert_same_training
from test_engine.test_resume_pretraining import BACKBONES
from test_engine.test_resume_pretraining import run as run_images
from test_engine.toy_run import run_toys

from mmvim.miniature.data_sets import ensure_miniature


def run(work_dir: Path, backbone: dict, data: Path, **others) -> dict:
    """Twenty iterations over random pieces of six scenes, one of their captions drawn each time."""
    cfg = run_images(work_dir, backbone, **others)
    cfg['custom_imports'] = {'imports': ['mmcv.transforms']}
    cfg['model'].pop('mask_patch_size')
    cfg['model'] |= {'type': 'mmvim.CLIP', 'text': {'dims': 16, 'depth': 1, 'num_heads': 2}, 'embed_dims': 8}
    cfg['train_dataloader'].pop('collate_fn')
    cfg['train_dataloader']['dataset'] = {
        'type': 'mmvim.CocoCaptions', 'data_root': str(data), 'ann_file': 'annotations/captions_train2017.json',
        'data_prefix': {'img': 'train2017'},
        'pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'mmvim.RandomResizedCrop', 'scale': 32},
            {'type': 'mmvim.DrawCaption'},
            {'type': 'mmvim.PackCaptions'},
        ],
    }  # fmt: skip
    return cfg


def test_twenty_iterations_equal_ten_and_a_kill_and_ten(tmp_path: Path) -> None:
    ensure_miniature('captions', tmp_path / 'data', train=6, val=1, size=(40, 40), progress=False)
    backbone, data = BACKBONES['staged'], tmp_path / 'data'
    signals = run_toys(
        run(tmp_path / 'whole', backbone, data),
        run(tmp_path / 'cut', backbone, data, workers=2, kill={'after': 13}),
        run(tmp_path / 'cut', backbone, data, workers=2, resume=True),
    )
    assert signals == [0, signal.SIGKILL, 0]
    assert_same_training(tmp_path / 'cut/iter_20.pth', tmp_path / 'whole/iter_20.pth')
