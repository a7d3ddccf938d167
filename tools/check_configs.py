"""Train every config for two iterations on miniature data; takes some minutes, so it is no test.

    python tools/check_configs.py [PATTERN ...]          such as 'vmamba/*' or 'vim/upernet*'; all by default

Images are small and the weights random; model, losses, augmentations, optimizer and schedule are the config's own. Each
runs in a process of its own. The exit code is 1 if one of them fails.
"""

import math
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mmengine.config import Config

from mmvim.catalogue import FAMILIES
from mmvim.engine import set_up_cpu
from mmvim.engine.runner import build_runner
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.preflight.data.places import BENCHMARKS, PRETRAINING, STANDARDS, Standard

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# All but ConvNeXt, which needs mmpretrain, and rotated/*, which need torchvision.
DEFAULT = [f'{Path(family.readme).parent.name}/*' for family in FAMILIES.values() if family.backbone]
DEFAULT += [
    'aerial/*',
    'driving/*',
    'medical/*',
    'video/*',
    'baselines/*deit*',
    'baselines/*resnet*',
    'baselines/*swin*',
]
DEFAULT += ['pretrain/*']
UNLABELLED = Standard('images without labels', 'unlabelled', 'data/unlabelled', 'train', '', '')
SMALLER = {
    'Resize': {'scale': (256, 256)},
    'RandomChoiceResize': {'scales': [(256, 192), (256, 256)]},
    'RandomResize': {'scale': (256, 256)},
    'RandomCrop': {'crop_size': (128, 128)},
    'mmvim.RandomResizedCrop': {'scale': 64},
}


def shrink(transforms: list) -> None:
    """Make the images that a pipeline gives small, in place; lists of lists are the branches of RandomChoice."""
    for transform in transforms:
        if isinstance(transform, list):
            shrink(transform)
            continue
        smaller = SMALLER.get(transform['type'].removeprefix('mmdet.'), {})
        transform.update({key: value for key, value in smaller.items() if key in transform})
        shrink(transform.get('transforms', []))


def two_iterations(path: Path, data: Path) -> float:
    """Train a config for two iterations of two images; returns the last loss."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    if 'window_sizes' in cfg.model.backbone:
        cfg.model.backbone.window_sizes = (14, 7)  # those for large images take 10 GB and minutes here
    cfg.work_dir = str(data / 'runs' / path.stem)
    cfg.log_level = 'ERROR'
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.indices = 4
    shrink(dataset.pipeline)
    standard = {**STANDARDS, **PRETRAINING, **BENCHMARKS, 'mmvim.ImageFolder': UNLABELLED}[dataset.type]
    ensure_miniature(standard.kind, data / standard.kind, train=8, val=4, progress=False)
    dataset.data_root = str(data / standard.kind / standard.folder)
    if cfg.default_scope in ('mmdet', 'mmrotate'):
        dataset.filter_cfg = None
        preprocessor = cfg.model.data_preprocessor
        preprocessor.pad_size_divisor = min(preprocessor.pad_size_divisor, 128)  # not squares of 1024
    elif cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (128, 128)
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 10}
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[name] = None
    cfg.default_hooks.checkpoint = None
    set_up_cpu(cfg)
    runner = build_runner(cfg)
    runner.train()
    if runner.iter != 2:
        raise RuntimeError(f'{runner.iter} iterations were done instead of 2')
    return float(runner.message_hub.get_scalar('train/loss').current())


def main() -> None:
    patterns = sys.argv[1:] or DEFAULT
    fitting = {path for pattern in patterns for path in CONFIGS.glob(f'{pattern.removesuffix(".py")}.py')}
    paths = sorted(path for path in fitting if not path.stem.endswith('_imagenet'))  # which are not for training
    if not paths:
        sys.exit(f'error: no config in {CONFIGS} fits {" ".join(patterns)}')
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        for path in paths:
            start = time.perf_counter()
            try:
                with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
                    loss = pool.submit(two_iterations, path, data).result()
                said = f'loss {loss:.2f}' if math.isfinite(loss) else f'FAILED: loss {loss}'
            except Exception as error:  # noqa: BLE001  the others are still to be checked
                said = f'FAILED: {type(error).__name__}: {error}'
            failed += said.startswith('FAILED')
            print(f'{path.relative_to(CONFIGS)}: {said}, {time.perf_counter() - start:.0f} s', flush=True)
    print(f'{len(paths) - failed} passed, {failed} failed')
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
