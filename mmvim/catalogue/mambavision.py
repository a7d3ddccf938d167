"""MambaVision: six published classifiers, and detectors and segmentors; none of the weights is for commercial use."""

from .records import Family, Flops, Model, OfficialFile, Published, classifier

_REPOSITORY = 'NVlabs/MambaVision'
_README = f'README of {_REPOSITORY}'
_DETECTION = f'object_detection/README of {_REPOSITORY}'
_SEGMENTATION = f'semantic_segmentation/README of {_REPOSITORY}'
_TERMS = 'CC BY-NC-SA 4.0: not for commercial use'

_CLASSIFIERS = (
    # variant, title, file, repository, parameters, top-1, top-5, GFLOPs
    ('mambavision_t', 'MambaVision-T', 'mambavision_tiny_1k', 'MambaVision-T-1K', 31_794_248, 82.3, 96.2, 4.4),
    ('mambavision_t2', 'MambaVision-T2', 'mambavision_tiny2_1k', 'MambaVision-T2-1K', 35_104_008, 82.7, 96.3, 5.1),
    ('mambavision_s', 'MambaVision-S', 'mambavision_small_1k', 'MambaVision-S-1K', 50_140_584, 83.3, 96.5, 7.5),
    ('mambavision_b', 'MambaVision-B', 'mambavision_base_1k', 'MambaVision-B-1K', 97_685_288, 84.2, 96.9, 15.0),
    ('mambavision_l', 'MambaVision-L', 'mambavision_large_1k', 'MambaVision-L-1K', 227_961_048, 85.0, 97.1, 34.9),
    ('mambavision_l2', 'MambaVision-L2', 'mambavision_large2_1k', 'MambaVision-L2-1K', 241_554_824, 85.3, 97.2, 37.5),
)
_DETECTORS = (
    # variant, upstream's size, parameters, box AP, mask AP
    ('mambavision_t', 'tiny', 89_202_034, 51.1, 44.3),
    ('mambavision_s', 'small', 107_482_034, 52.3, 45.2),
    ('mambavision_b', 'base', 154_894_066, 52.8, 45.7),
)
_SEGMENTORS = (
    # variant, upstream's size, parameters, mIoU
    ('mambavision_t', 'tiny', 62_518_764, 46.0),
    ('mambavision_s', 'small', 81_794_092, 48.2),
    ('mambavision_b', 'base', 131_196_780, 49.1),
)


def _file(name: str, repository: str) -> OfficialFile:
    page = f'huggingface.co/nvidia/{repository}'
    return OfficialFile(name, page, f'https://{page}/resolve/main/{name}', terms=_TERMS)


_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}
_FILES = {variant: _file(f'{name}.pth.tar', repository) for variant, _, name, repository, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        classifier(
            'MambaVision',
            variant,
            title,
            parameters=parameters,
            published=(Published('top-1', top1, _README), Published('top-5', top5, _README)),
            flops=Flops(gflops, '224 x 224', _README),
            weights=_FILES[variant],
        )
        for variant, title, _, _, parameters, top1, top5, gflops in _CLASSIFIERS
    ]


def _dense(variant: str, official: str, name: str, long_name: str, **fields) -> Model:
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='MambaVision',
        config=f'configs/mambavision/{name}.py',
        long_name=long_name,
        weights=_file(f'{official}.pth', official),
        start=_FILES[variant].name,
        batch_size=16,
        **fields,
    )


def _detectors() -> list[Model]:
    return [
        _dense(
            variant,
            f'cascade_mask_rcnn_mamba_vision_{size}_3x_coco',
            f'cascade_mask_rcnn_{variant}_3x_coco',
            f'cascade-mask-rcnn_{variant.replace("_", "-")}_fpn_8xb2-ms-3x_coco',
            task='det',
            method='Cascade Mask R-CNN',
            parameters=parameters,
            published=(Published('box AP', box, _DETECTION), Published('mask AP', mask, _DETECTION)),
            recipe='36 epochs',
        )
        for variant, size, parameters, box, mask in _DETECTORS
    ]


def _segmentors() -> list[Model]:
    return [
        _dense(
            variant,
            f'mamba_vision_160k_ade20k-512x512_{size}',
            f'upernet_{variant}_ade20k',
            f'upernet_{variant.replace("_", "-")}_8xb2-160k_ade20k-512x512',
            task='seg',
            method='UPerNet',
            parameters=parameters,
            published=(Published('mIoU', miou, _SEGMENTATION),),
        )
        for variant, size, parameters, miou in _SEGMENTORS
    ]


_DENSE = (*_detectors(), *_segmentors())
FAMILY = Family(
    name='MambaVision',
    readme='configs/mambavision/README.md',
    models=(*_classifiers(), *_DENSE),
    files=(*_FILES.values(), *(model.weights for model in _DENSE)),
    architecture=('Selective State Space Model', 'Attention', 'Convolution'),
    paper=('MambaVision: A Hybrid Mamba-Transformer Vision Backbone', 'https://arxiv.org/abs/2407.08083'),
    code=f'https://github.com/{_REPOSITORY}',
    license='NVIDIA Source Code License-NC; weights CC BY-NC-SA 4.0',
    backbone='MambaVision',
    titles={'tiny2': 'MambaVision-T2', 'large': 'MambaVision-L', 'large2': 'MambaVision-L2'},
    colours={'MambaVision': '#5a9216'},
)
