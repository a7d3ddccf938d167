"""``tools/train.py`` and ``tools/test.py`` as somebody types them: on miniature data, with a tiny model."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvim.miniature.data_sets import ensure_miniature

ROOT = Path(__file__).resolve().parents[2]
UPERNET = ROOT / 'configs' / 'vim' / 'upernet_vim_t_ade20k.py'
MASK_RCNN = ROOT / 'configs' / 'vim' / 'mask_rcnn_vim_t_coco.py'

TINY = [
    'model.backbone.init_cfg=None',
    'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=16',
    'model.backbone.arch.depth=4',
    'model.backbone.arch.patch_size=16',
    'model.backbone.arch.patch_stride=16',
    'model.neck.in_channels=16',
    'train_dataloader.batch_size=2',
    *(
        f'{stage}_dataloader.{setting}'
        for stage in ('train', 'val', 'test')
        for setting in ('num_workers=0', 'persistent_workers=False')
    ),
    'default_hooks.logger.interval=1',
]
SEGMENTATION = [
    *TINY,
    'model.data_preprocessor.size=(64,64)',
    'model.backbone.out_indices=(0,1,2,3)',
    'model.decode_head.in_channels=[16,16,16,16]',
    'model.decode_head.channels=16',
    'model.auxiliary_head.in_channels=16',
    'model.test_cfg.crop_size=(64,64)',
    'model.test_cfg.stride=(42,42)',
    'train_dataloader.dataset.pipeline.2.scale=(96,64)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
    'val_dataloader.dataset.pipeline.1.scale=(96,64)',
    'test_dataloader.dataset.pipeline.1.scale=(96,64)',
    *(f'tta_pipeline.1.transforms.0.{i}.scale=({48 * (i + 1)},{32 * (i + 1)})' for i in range(6)),
    'default_hooks.checkpoint.interval=2',
    'train_cfg.val_interval=4',
]
DETECTION = [
    *TINY,
    'train_dataloader.dataset.pipeline.2.scale=(96,64)',
    'train_dataloader.dataset.filter_cfg.min_size=1',
    'val_dataloader.dataset.pipeline.1.scale=(96,64)',
    'test_dataloader.dataset.pipeline.1.scale=(96,64)',
    'model.train_cfg.rcnn.sampler.num=16',
    'model.test_cfg.rcnn.score_thr=0.0',
    'model.test_cfg.rcnn.max_per_img=5',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
]


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both miniature data sets where the configs expect them."""
    folder = tmp_path_factory.mktemp('place')
    ensure_miniature('ade20k', folder / 'data' / 'ade', train=6, val=2, size=(64, 96), progress=False)
    ensure_miniature('coco', folder / 'data' / 'coco', train=6, val=2, size=(64, 96), progress=False)
    return folder


def start(place: Path, tool: str, *arguments: object) -> subprocess.Popen:
    """Start a tool in the folder."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run(place: Path, tool: str, *arguments: object) -> str:
    """Run a tool in the folder to its good end; what it printed."""
    process = start(place, tool, *arguments)
    output = process.communicate()[0]
    assert process.returncode == 0, output[-4000:]
    return output


def run_until(file: Path, place: Path, *arguments: object) -> None:
    """Train until a file appears, then kill the process."""
    process = start(place, 'train.py', *arguments)
    while not file.exists():
        assert process.poll() is None, process.stdout.read()[-4000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_upernet(place: Path) -> None:
    work_dir = place / 'work_dirs' / 'upernet_vim_t_ade20k'
    run_until(
        work_dir / 'last_checkpoint',
        place,
        UPERNET,
        '--amp',
        '--cfg-options',
        *SEGMENTATION,
        'train_cfg.max_iters=60000',
    )
    assert (work_dir / 'iter_2.pth').exists()

    killed_at = int(Path((work_dir / 'last_checkpoint').read_text()).stem.removeprefix('iter_'))
    length = killed_at + 4 - killed_at % 4
    options = [*SEGMENTATION, f'train_cfg.max_iters={length}']
    output = run(place, 'train.py', UPERNET, '--amp', '--resume', '--cfg-options', *options)
    assert f'iter: {killed_at}' in output
    assert f'Iter(train) [{killed_at}/' not in output
    assert f'Iter(train) [{killed_at + 1}/{length}]' in output.replace('[ ', '[')
    assert 'bfloat16' in output
    assert 'scans: ' in output
    assert 'mIoU' in output
    checkpoint = work_dir / f'iter_{length}.pth'

    output = run(
        place, 'test.py', UPERNET, checkpoint, '--out', 'maps', '--show-dir', 'shown', '--cfg-options', *SEGMENTATION
    )
    assert 'mIoU' in output
    maps = sorted((place / 'maps').glob('*.png'))
    truth = sorted((place / 'data/ade/ADEChallengeData2016/annotations/validation').glob('*.png'))
    assert [path.name for path in maps] == [path.name for path in truth]
    labels = np.array(Image.open(maps[0]))
    assert labels.shape == (64, 96)
    assert labels.min() >= 1, 'on disk the classes of ADE20K start at 1'
    assert 'predictions: maps' in output
    assert 'pictures: shown/vis_data/vis_image' in output
    pictures = list((place / 'shown/vis_data/vis_image').glob('*.png'))
    assert len(pictures) == 2
    assert np.array(Image.open(pictures[0])).shape == (64, 2 * 96, 3), 'truth and prediction side by side'

    output = run(place, 'test.py', UPERNET, checkpoint, '--tta', '--cfg-options', *SEGMENTATION)
    assert 'mIoU' in output


def test_mask_rcnn(place: Path) -> None:
    work_dir = place / 'own'
    options = ['--work-dir', work_dir, '--auto-scale-lr', '--cfg-options', *DETECTION]
    run_until(work_dir / 'last_checkpoint', place, MASK_RCNN, *options)
    assert (work_dir / 'epoch_1.pth').exists()

    (work_dir / 'epoch_2.pth').unlink(missing_ok=True)
    output = run(place, 'train.py', MASK_RCNN, '--resume', work_dir / 'epoch_1.pth', *options)
    assert 'Scaling the original LR by 0.125' in output
    assert set(re.findall(r'Epoch\(train\) +\[(\d+)\]', output)) == {'2'}
    assert 'coco/segm_mAP' in output

    checkpoint = work_dir / 'epoch_2.pth'
    output = run(
        place,
        'test.py',
        MASK_RCNN,
        checkpoint,
        '--out',
        'found.pkl',
        '--show-dir',
        'drawn',
        '--cfg-options',
        *DETECTION,
    )
    assert 'coco/bbox_mAP' in output
    with open(place / 'found.pkl', 'rb') as file:
        found = pickle.load(file)
    assert len(found) == 2
    assert {'bboxes', 'scores', 'labels', 'masks'} <= set(found[0]['pred_instances'])
    assert len(list((place / 'drawn').glob('*.jpg'))) == 2


def test_two_processes(place: Path) -> None:
    """The script for several GPUs; without any, the processes talk through gloo."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONWARNINGS': 'ignore'}
    environment.update(PORT='29517', PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    result = subprocess.run(
        [ROOT / 'tools' / 'dist_train.sh', UPERNET, '2', '--work-dir', 'two', '--cfg-options', *SEGMENTATION]
        + ['train_cfg.max_iters=2', 'default_hooks.checkpoint.save_best=None'],
        cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]
    assert (place / 'two' / 'iter_2.pth').exists()
    assert 'SyncBN is replaced by BN' in result.stdout


def test_slurm(tmp_path: Path) -> None:
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    environment = {
        **os.environ,
        'PATH': f'{tmp_path}:{os.environ["PATH"]}',
        'GPUS': '4',
        'SRUN_ARGS': '--qos a --time 5',
    }
    script = ROOT / 'tools' / 'slurm_train.sh'
    result = subprocess.run(
        [script, 'part', 'a job', 'a config.py', '--amp'], env=environment, text=True, capture_output=True, check=True
    )
    words = result.stdout.splitlines()
    assert {'--partition=part', '--job-name=a job', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4'} <= set(words)
    assert words[words.index('--qos') : words.index('python')] == ['--qos', 'a', '--time', '5']
    assert words[-4:] == ['a config.py', '--launcher', 'slurm', '--amp']
    assert subprocess.run([script, 'part'], capture_output=True).returncode == 2
