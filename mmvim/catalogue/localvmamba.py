"""LocalVMamba, LocalMamba's model of four stages: published classifiers; no dense weights were ever released."""

from .localvim import BOX_AND_MASK, CODE, PAPER, published_file
from .records import Family, Flops, Model, Published, classifier

_README = 'README of hunto/LocalMamba'
_DETECTION, _SEGMENTATION = 'paper, table 3', 'paper, table 4'

_CLASSIFIERS = (
    # variant, title, file, parameters, top-1, GFLOPs, what there is to say
    ('localvmamba_t', 'LocalVMamba-T', 'local_vssm_tiny.ckpt', 25_527_160, 82.7, 5.7,
     'named by the authors, who were training it anew'),
    ('localvmamba_s', 'LocalVMamba-S', 'local_vssm_small.ckpt', 49_748_536, 83.7, 11.4, ''),
)  # fmt: skip
_DETECTORS = (
    # variant, what else is in the name, parameters, GFLOPs, box AP, AP50, AP75, mask AP, AP50, AP75
    ('localvmamba_t', '', 45_033_408, 291, 46.7, 68.7, 50.8, 42.2, 65.7, 45.5),
    ('localvmamba_s', '', 69_254_784, 414, 48.4, 69.9, 52.7, 43.2, 66.7, 46.5),
    ('localvmamba_t', '_3x', 45_033_408, 291, 48.7, 70.1, 53.0, 43.4, 67.0, 46.4),
    ('localvmamba_s', '_3x', 69_254_784, 414, 49.9, 70.5, 54.4, 44.1, 67.8, 47.4),
)
_SEGMENTORS = (
    # variant, parameters, GFLOPs, mIoU, mIoU of several scales and mirror images
    ('localvmamba_t', 57_180_668, 970, 47.9, 49.1),
    ('localvmamba_s', 81_402_044, 1095, 50.0, 51.0),
)
_RECIPE = 'the numbers are those of legacy_reverse=True'

_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}
_FILES = {variant: published_file(name) for variant, _, name, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        classifier(
            'LocalVMamba',
            variant,
            title,
            parameters=parameters,
            published=(Published('top-1', top1, _README),),
            flops=Flops(gflops, '224 x 224', _README),
            weights=_FILES[variant],
            recipe=recipe,
        )
        for variant, title, _, parameters, top1, gflops, recipe in _CLASSIFIERS
    ]


def _dense(variant: str, method: str, name: str, long_name: str, **fields) -> Model:
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='LocalVMamba',
        method=method,
        config=f'configs/localvmamba/{name}.py',
        long_name=long_name,
        start=_FILES[variant].name,
        batch_size=16,
        **fields,
    )


def _detectors() -> list[Model]:
    return [
        _dense(
            variant,
            'Mask R-CNN',
            f'mask_rcnn_{variant}{extra}_coco',
            f'mask-rcnn_{variant.replace("_", "-")}_fpn_{"8xb2-ms-3x" if extra else "8xb2-1x"}_coco',
            task='det',
            parameters=parameters,
            published=tuple(Published(m, value, _DETECTION) for m, value in zip(BOX_AND_MASK, numbers, strict=True)),
            flops=Flops(gflops, '800 x 1280', _DETECTION),
            recipe=f'{36 if extra else 12} epochs; {_RECIPE}',
        )
        for variant, extra, parameters, gflops, *numbers in _DETECTORS
    ]


def _segmentors() -> list[Model]:
    return [
        _dense(
            variant,
            'UPerNet',
            f'upernet_{variant}_ade20k',
            f'upernet_{variant.replace("_", "-")}_8xb2-160k_ade20k-512x512',
            task='seg',
            parameters=parameters,
            published=(
                Published('mIoU', miou, _SEGMENTATION),
                Published('mIoU (ms+flip)', multi_scale, _SEGMENTATION),
            ),
            flops=Flops(gflops, '512 x 2048', _SEGMENTATION),
            recipe=_RECIPE,
        )
        for variant, parameters, gflops, miou, multi_scale in _SEGMENTORS
    ]


FAMILY = Family(
    name='LocalVMamba',
    readme='configs/localvmamba/README.md',
    models=(*_classifiers(), *_detectors(), *_segmentors()),
    files=tuple(_FILES.values()),
    architecture=('Selective State Space Model', 'Windowed Scan'),
    paper=PAPER,
    code=CODE,
    license='Apache License 2.0',
    backbone='LocalVMamba',
    colours={'LocalVMamba': '#7a5195'},
)
