"""What the models of the zoo are compared with; no weights of whole models, only files that training starts from."""

from .records import Family, Model, OfficialFile, Published

_VIM_PAPER = 'paper of Vim, from memory'
_MMLAB = 'download.openmmlab.com'
_SWIN = 'github.com/SwinTransformer/storage/releases'

_FILES = {
    'deit_t': OfficialFile(
        'deit_tiny_patch16_224-a1311bcf.pth',
        'github.com/facebookresearch/deit',
        'https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth',
    ),
    'deit_s': OfficialFile(
        'deit_small_patch16_224-cd65a155.pth',
        'github.com/facebookresearch/deit',
        'https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
    ),
    'swin_t': OfficialFile(
        'swin_tiny_patch4_window7_224.pth',
        f'{_SWIN}/tag/v1.0.0',
        f'https://{_SWIN}/download/v1.0.0/swin_tiny_patch4_window7_224.pth',
    ),
}


def _in_folder(folder: str, name: str) -> OfficialFile:
    return OfficialFile(name, folder, f'https://{folder}/{name}')


_RESNET = 'download.pytorch.org/models'
_V1C = f'{_MMLAB}/pretrain/third_party'
_FILES |= {
    'swin_t of mmseg': _in_folder(
        f'{_MMLAB}/mmsegmentation/v0.5/pretrain/swin', 'swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'
    ),
    'resnet50': _in_folder(_RESNET, 'resnet50-0676ba61.pth'),
    'resnet101': _in_folder(_RESNET, 'resnet101-63fe2227.pth'),
    'resnet50 of mmseg': _in_folder(_V1C, 'resnet50_v1c-2cccc1ad.pth'),
    'resnet101 of mmseg': _in_folder(_V1C, 'resnet101_v1c-e67eebb6.pth'),
    'convnext_t': _in_folder(
        f'{_MMLAB}/mmclassification/v0/convnext/downstream',
        'convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth',
    ),
}
_TITLES = {
    'deit_t': 'DeiT-Ti',
    'deit_s': 'DeiT-S',
    'swin_t': 'Swin-T',
    'resnet50': 'ResNet-50',
    'resnet101': 'ResNet-101',
    'convnext_t': 'ConvNeXt-T',
}
_SEGMENTORS = (
    # variant, file, long name, parameters, batch size, mIoU, mIoU of several scales and mirror images, source
    ('deit_t', 'deit_t', 'upernet_deit-t_4xb8-60k_ade20k-512x512', 10_721_324, 32, 39.2, None, _VIM_PAPER),
    ('deit_s', 'deit_s', 'upernet_deit-s_4xb8-60k_ade20k-512x512', 41_383_724, 32, 44.0, None, _VIM_PAPER),
    ('swin_t', 'swin_t of mmseg', 'upernet_swin-t_8xb2-160k_ade20k-512x512', 59_941_862, 16, 44.41, 45.79, 'mmseg'),
    ('resnet50', 'resnet50 of mmseg', 'upernet_r50_8xb2-160k_ade20k-512x512', 66_516_108, 16, 42.05, 42.78, 'mmseg'),
    ('resnet101', 'resnet101 of mmseg', 'upernet_r101_8xb2-160k_ade20k-512x512', 85_508_236, 16, 43.82, 44.85, 'mmseg'),
    # Counted from ConvNeXt-T's published 28,589,128: mmpretrain is not among the packages that the tests have.
    ('convnext_t', 'convnext_t', 'upernet_convnext-t_8xb2-160k_ade20k-512x512', 60_242_636, 16, 46.11, 46.62,
     'mmseg, by another recipe'),
)  # fmt: skip
_DETECTORS = (
    # variant, method, long name, parameters, batch size, (box AP, mask AP), source
    ('swin_t', 'Mask R-CNN', 'mask-rcnn_swin-t_fpn_8xb2-1x_coco', 47_794_602, 16, (42.7, 39.3), 'mmdet'),
    ('resnet50', 'Mask R-CNN', 'mask-rcnn_r50_fpn_8xb2-1x_coco', 44_396_336, 16, (38.2, 34.7), 'mmdet'),
    ('resnet101', 'Mask R-CNN', 'mask-rcnn_r101_fpn_8xb2-1x_coco', 63_388_464, 16, (40.0, 36.1), 'mmdet'),
    ('convnext_t', 'Mask R-CNN', 'mask-rcnn_convnext-t_fpn_8xb2-1x_coco', 48_095_376, 16, (), ''),
    ('deit_t', 'Cascade Mask R-CNN', 'cascade-mask-rcnn_deit-t_simple-pyramid_4xb16-lsj-184k_coco', 63_189_102, 64,
     (44.4, 38.1), _VIM_PAPER),
    ('deit_s', 'Cascade Mask R-CNN', 'cascade-mask-rcnn_deit-s_simple-pyramid_4xb16-lsj-184k_coco', 79_962_846, 64,
     (), ''),
)  # fmt: skip


def _model(name: str, variant: str, file: str, **fields) -> Model:
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='Baselines',
        config=f'configs/baselines/{name}.py',
        start=_FILES[file].name,
        recipe='ours; the numbers are those of others for such a model' if fields['published'] else 'ours',
        **fields,
    )


def _segmentors() -> list[Model]:
    models = []
    for variant, file, long_name, parameters, batch_size, miou, multi_scale, source in _SEGMENTORS:
        published = [Published('mIoU', miou, source)]
        if multi_scale is not None:
            published.append(Published('mIoU (ms+flip)', multi_scale, source))
        models.append(
            _model(
                f'upernet_{variant}_ade20k',
                variant,
                file,
                task='seg',
                method='UPerNet',
                parameters=parameters,
                long_name=long_name,
                published=tuple(published),
                batch_size=batch_size,
            )
        )
    return models


def _detectors() -> list[Model]:
    return [
        _model(
            f'{method.lower().replace(" ", "_").replace("r-cnn", "rcnn")}_{variant}_coco',
            variant,
            variant,
            task='det',
            method=method,
            parameters=parameters,
            long_name=long_name,
            published=tuple(
                Published(metric, value, source) for metric, value in zip(('box AP', 'mask AP'), numbers, strict=False)
            ),
            batch_size=batch_size,
        )
        for variant, method, long_name, parameters, batch_size, numbers, source in _DETECTORS
    ]


FAMILY = Family(
    name='Baselines',
    readme='configs/baselines/README.md',
    models=(*_segmentors(), *_detectors()),
    files=tuple(_FILES.values()),
    architecture=('Vision Transformer', 'Swin Transformer', 'ResNet', 'ConvNeXt'),
    colours={'DeiT': '#3b6ea5', 'Swin': '#3f8f6b', 'ResNet': '#777777'},
)
