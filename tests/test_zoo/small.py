"""A zoo of small models, with weights in the layouts of published files and data sets of drawn scenes.

python tests/test_zoo/small.py FOLDER ARGUMENTS...      tools/zoo.py with the zoo that `make_place` made in FOLDER
"""

import pickle
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmvim.catalogue import Model, OfficialFile, Published
from mmvim.commands.zoo import main
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.zoo.check import build, official_state

ROOT = Path(__file__).parents[2]
CLASSES = 5  # of the drawn ImageNet
_VIM = {'embed_dims': 16, 'depth': 4, 'patch_size': 16, 'patch_stride': 16}
_VMAMBA = {'embed_dims': 16, 'depths': (1, 1, 1, 1)}
_SEG_PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': (128, 64), 'keep_ratio': True},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]
_DET_PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'Resize', 'scale': (96, 64), 'keep_ratio': True},
    {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
    {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')},
]
_IMAGENET = {
    'test_dataloader': {
        'dataset': {
            'num_classes': CLASSES,
            'pipeline': [{'type': 'mmvim.LoadForClassifier', 'resize': 36, 'crop': 32}],
        }
    }
}
#: Name, task, the config that is made smaller, how, and the published numbers.
_MODELS = (
    (
        'vim_small_imagenet',
        'imagenet',
        'vim/vim_t_imagenet',
        {
            'model': {'backbone': {'arch': _VIM}, 'head': {'in_channels': 16, 'num_classes': CLASSES}},
            **_IMAGENET,
        },
        {'top-1': 76.1, 'top-5': 100.0},
    ),
    (
        'vmamba_small_imagenet',
        'imagenet',
        'vmamba/vmamba_t_imagenet',
        {
            'model': {'backbone': {'arch': _VMAMBA}, 'head': {'in_channels': 128, 'num_classes': CLASSES}},
            **_IMAGENET,
        },
        {'top-1': 82.6},
    ),
    (
        'upernet_vmamba_small_ade20k',
        'seg',
        'vmamba/upernet_vmamba_t_ade20k',
        {
            'model': {
                'backbone': {'arch': _VMAMBA},
                'decode_head': {'in_channels': [16, 32, 64, 128], 'channels': 16},
                'auxiliary_head': {'in_channels': 64, 'channels': 16},
            },
            'test_dataloader': {'dataset': {'pipeline': _SEG_PIPELINE}},
        },
        {'mIoU': 47.9, 'mIoU (ms+flip)': 48.8},
    ),
    (
        'mask_rcnn_vmamba_small_coco',
        'det',
        'vmamba/mask_rcnn_vmamba_t_coco',
        {
            'model': {
                'backbone': {'arch': _VMAMBA},
                'neck': {'in_channels': [16, 32, 64, 128]},
                'test_cfg': {'rcnn': {'score_thr': 0.0, 'max_per_img': 100, 'nms': {'iou_threshold': 0.9}}},
            },
            'test_dataloader': {'dataset': {'pipeline': _DET_PIPELINE}},
        },
        {'box AP': 47.3, 'mask AP': 42.7},
    ),
)


def make_place(folder: Path) -> list[Model]:
    """Make weights, data sets and configs in a folder; returns the models."""
    make_data(folder / 'data')
    models = make_models(folder, folder / 'weights')
    (folder / 'models.pickle').write_bytes(pickle.dumps(models))
    return models


def arguments(folder: Path, *more: object) -> list[str]:
    """Of an evaluation in such a folder, which leaves the network alone."""
    places = [part for name in ('weights', 'data', 'out') for part in (f'--{name}', str(folder / name))]
    return ['evaluate', *places, '--no-download', '--workers', '0', *map(str, more)]


def make_data(folder: Path, images: int = 2) -> Path:
    """Draw all three data sets into a folder, where ``--data`` expects them."""
    size = {'size': (64, 96), 'progress': False, 'train': 1}
    ensure_miniature('ade20k', folder / 'ade', val=images, **size)
    ensure_miniature('coco', folder / 'coco', val=images, **size)
    ensure_miniature('imagenet', folder / 'imagenet', val=CLASSES * images, **size)
    return folder


def make_models(folder: Path, weights: Path) -> list[Model]:
    """Write the small configs and the weights; returns their records."""
    weights.mkdir(parents=True, exist_ok=True)
    return [_make(folder, weights, *entry) for entry in _MODELS]


def _make(folder: Path, weights: Path, name: str, task: str, base: str, change: dict, numbers: dict) -> Model:
    cfg = Config.fromfile(ROOT / 'configs' / f'{base}.py')
    _replace_arch(cfg, change)
    cfg.merge_from_dict(change)
    cfg.model.backbone.init_cfg = None
    path = folder / f'{name}.py'
    cfg.dump(path)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        module = build(cfg.model)
    _guess(module)
    file = OfficialFile(f'{name}_official.pth', 'example.org/small', f'https://example.org/small/{name}_official.pth')
    torch.save({'model' if task == 'imagenet' else 'state_dict': official_state(module)}, weights / file.name)
    return Model(
        name=name,
        title=name,
        variant='small',
        family='VMamba',
        task=task,
        method='small',
        config=str(path),
        parameters=sum(p.numel() for p in module.parameters()),
        long_name=name,
        published=tuple(Published(metric, value, 'nowhere') for metric, value in numbers.items()),
        weights=file,
    )


def _guess(module: torch.nn.Module) -> None:
    """Have an untrained model see one class everywhere, so that its numbers are not zero and can be worked out."""
    with torch.no_grad():
        if hasattr(module, 'decode_head'):
            module.decode_head.conv_seg.weight.zero_()
            module.decode_head.conv_seg.bias[2] = 10  # sky
        if hasattr(module, 'roi_head'):
            module.roi_head.bbox_head.fc_cls.bias[0] = 10  # person


def _replace_arch(cfg: Config, change: dict) -> None:
    """What is a name in the config is a dict here."""
    cfg.model.backbone.pop('arch', None)


if __name__ == '__main__':
    sys.exit(main(sys.argv[2:], pickle.loads(Path(sys.argv[1], 'models.pickle').read_bytes())))
