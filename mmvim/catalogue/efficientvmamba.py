"""EfficientVMamba: three published classifiers; no dense weights were ever released."""

from .records import Family, Flops, Model, OfficialFile, Published, classifier

_README = 'README of TerryPei/EfficientVMamba'
_MASK_RCNN, _RETINANET, _UPERNET = 'paper, table 7', 'paper, table 3', 'paper, table 4'

_CLASSIFIERS = (
    # variant, title, official name, parameters, top-1, GFLOPs
    ('efficientvmamba_t', 'EfficientVMamba-T', 'tiny', 6_493_660, 76.5, 0.8),
    ('efficientvmamba_s', 'EfficientVMamba-S', 'small', 11_273_688, 78.7, 1.3),
    ('efficientvmamba_b', 'EfficientVMamba-B', 'base', 33_717_136, 81.8, 4.0),
)
_MASK_RCNNS = (
    # variant, what else is in the name, parameters, box AP, AP50, AP75, mask AP, AP50, AP75
    ('efficientvmamba_t', '', 26_198_916, 35.6, 57.7, 38.0, 33.2, 54.4, 35.1),
    ('efficientvmamba_s', '', 30_912_608, 39.3, 61.8, 42.6, 36.7, 58.9, 39.2),
    ('efficientvmamba_b', '', 53_223_384, 43.7, 66.2, 47.9, 40.2, 63.3, 42.9),
    ('efficientvmamba_t', '_3x', 26_198_916, 38.3, 60.3, 41.6, 35.3, 57.2, 37.6),
    ('efficientvmamba_s', '_3x', 30_912_608, 41.6, 63.9, 45.6, 38.2, 60.8, 40.7),
    ('efficientvmamba_b', '_3x', 53_223_384, 45.0, 66.9, 49.2, 40.8, 64.1, 43.7),
)
_RETINANETS = (
    # variant, parameters, box AP, AP50, AP75
    ('efficientvmamba_t', 15_990_664, 37.5, 57.8, 39.6),
    ('efficientvmamba_s', 20_995_172, 39.1, 60.3, 41.2),
    ('efficientvmamba_b', 43_887_580, 42.8, 63.9, 45.8),
)
_SEGMENTORS = (
    # variant, parameters, mIoU, mIoU of several scales and mirror images
    ('efficientvmamba_t', 35_360_192, 38.9, 39.3),
    ('efficientvmamba_s', 41_069_212, 41.5, 42.1),
    ('efficientvmamba_b', 65_370_644, 46.5, 47.3),
)
_RECIPES = {'': '12 epochs', '_3x': '36 epochs'}


def _file(official: str) -> OfficialFile:
    page, name = f'huggingface.co/TerryPei/EfficientVMamba-{official.capitalize()}', f'efficient_vmamba_{official}.ckpt'
    return OfficialFile(name, page, f'https://{page}/resolve/main/{name}')


_FILES = {variant: _file(official) for variant, _, official, *_ in _CLASSIFIERS}
_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        classifier(
            'EfficientVMamba',
            variant,
            title,
            parameters=parameters,
            published=(Published('top-1', top1, _README),),
            flops=Flops(gflops, '224 x 224', _README),
            weights=_FILES[variant],
        )
        for variant, title, _, parameters, top1, gflops in _CLASSIFIERS
    ]


def _dense(
    variant: str, method: str, name: str, schedule: str, metrics: dict[str, float], source: str, **fields
) -> Model:
    task = 'seg' if method == 'UPerNet' else 'det'
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='EfficientVMamba',
        task=task,
        method=method,
        config=f'configs/efficientvmamba/{name}.py',
        long_name=f'{method.lower().replace(" ", "-")}_{variant.replace("_", "-")}_{schedule}',
        published=tuple(Published(metric, value, source) for metric, value in metrics.items()),
        start=_FILES[variant].name,
        batch_size=16,
        **fields,
    )


def _detectors() -> list[Model]:
    boxes = ('box AP', 'box AP50', 'box AP75')
    both = (*boxes, 'mask AP', 'mask AP50', 'mask AP75')
    models = [
        _dense(
            variant,
            'Mask R-CNN',
            f'mask_rcnn_{variant}{extra}_coco',
            f'fpn_8xb2-{"ms-3x" if extra else "1x"}_coco',
            dict(zip(both, numbers, strict=True)),
            _MASK_RCNN,
            parameters=parameters,
            recipe=_RECIPES[extra],
        )
        for variant, extra, parameters, *numbers in _MASK_RCNNS
    ]
    models += [
        _dense(
            variant,
            'RetinaNet',
            f'retinanet_{variant}_coco',
            'fpn_8xb2-1x_coco',
            dict(zip(boxes, numbers, strict=True)),
            _RETINANET,
            parameters=parameters,
            recipe='12 epochs; what the paper leaves open is ours',
        )
        for variant, parameters, *numbers in _RETINANETS
    ]
    return models


def _segmentors() -> list[Model]:
    return [
        _dense(
            variant,
            'UPerNet',
            f'upernet_{variant}_ade20k',
            '8xb2-160k_ade20k-512x512',
            {'mIoU': miou, 'mIoU (ms+flip)': multi_scale},
            _UPERNET,
            parameters=parameters,
            recipe='what the paper leaves open is ours',
        )
        for variant, parameters, miou, multi_scale in _SEGMENTORS
    ]


FAMILY = Family(
    name='EfficientVMamba',
    readme='configs/efficientvmamba/README.md',
    models=(*_classifiers(), *_detectors(), *_segmentors()),
    files=tuple(_FILES.values()),
    architecture=('Selective State Space Model', 'Atrous Selective Scan', 'Inverted Residual'),
    paper=(
        'EfficientVMamba: Atrous Selective Scan for Light Weight Visual Mamba',
        'https://arxiv.org/abs/2403.09977',
    ),
    code='https://github.com/TerryPei/EfficientVMamba',
    backbone='EfficientVMamba',
    colours={'EfficientVMamba': '#5b8e2d'},
)
