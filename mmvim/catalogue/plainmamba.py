"""PlainMamba: published weights of all of its classifiers, detectors and segmentors.

Upstream calls files of several tasks alike; here each has a name of its own, under which it lies in ``weights/``.
"""

from .records import Family, Flops, Model, OfficialFile, Published, classifier

_README, _PAPER = 'README of ChenhongyiYang/PlainMamba', 'paper'
_PAGE = 'huggingface.co/ChenhongyiYang/PlainMamba'

_CLASSIFIERS = (
    # variant, parameters, top-1, top-5, GFLOPs
    ('l1', 7_551_656, 77.9, 94.0, 3.0),
    ('l2', 26_145_832, 81.6, 95.6, 8.1),
    ('l3', 50_956_456, 82.3, 95.9, 14.4),
)
_MASK_RCNNS = (
    # variant, parameters, box AP, mask AP
    ('l1', 31_212_128, 44.1, 39.1),
    ('l2', 53_202_496, 46.0, 40.6),
    ('l3', 79_781_520, 46.8, 41.2),
)
_RETINANETS = (
    # variant, parameters, box AP
    ('l1', 19_360_356, 41.7),
    ('l2', 41_301_572, 43.9),
    ('l3', 67_864_212, 44.8),
)
_SEGMENTORS = (
    # variant, parameters, mIoU
    ('l1', 35_455_596, 44.1),
    ('l2', 55_874_156, 46.8),
    ('l3', 81_292_908, 49.1),
)


def _file(name: str, path: str) -> OfficialFile:
    return OfficialFile(f'plainmamba_{name}.pth', f'{_PAGE}/blob/main/{path}', f'https://{_PAGE}/resolve/main/{path}')


_STARTS = {variant: _file(variant, f'{variant}.pth') for variant, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        classifier(
            'PlainMamba',
            f'plainmamba_{variant}',
            f'PlainMamba-{variant.upper()}',
            parameters=parameters,
            published=(Published('top-1', top1, _README), Published('top-5', top5, _README)),
            flops=Flops(gflops, '224 x 224', _PAPER),
            weights=_STARTS[variant],
        )
        for variant, parameters, top1, top5, gflops in _CLASSIFIERS
    ]


def _dense(
    variant: str, method: str, schedule: str, path: str, metrics: tuple[str, ...], parameters: int, *numbers: float
) -> Model:
    stem, task = method.lower().replace(' ', '_').replace('-', ''), 'seg' if method == 'UPerNet' else 'det'
    name = f'{stem}_plainmamba_{variant}_{"ade20k" if task == "seg" else "coco"}'
    return Model(
        name=name,
        title=f'PlainMamba-{variant.upper()}',
        variant=f'plainmamba_{variant}',
        family='PlainMamba',
        task=task,
        method=method,
        config=f'configs/plainmamba/{name}.py',
        parameters=parameters,
        long_name=f'{method.lower().replace(" ", "-")}_plainmamba-{variant}_{schedule}',
        published=tuple(Published(metric, value, _README) for metric, value in zip(metrics, numbers, strict=True)),
        weights=_file(f'{variant}_{stem}', path),
        start=_STARTS[variant].name,
        batch_size=16,
        recipe='12 epochs' if task == 'det' else '',
    )


def _models() -> list[Model]:
    models, schedule = _classifiers(), 'adapter_fpn_8xb2-1x_coco'
    for variant, *numbers in _MASK_RCNNS:
        path = f'detection/maskrcnn/{variant}_1x.pth'
        models.append(_dense(variant, 'Mask R-CNN', schedule, path, ('box AP', 'mask AP'), *numbers))
    for variant, *numbers in _RETINANETS:
        path = f'detection/retinanet/{variant}_1x.pth'
        models.append(_dense(variant, 'RetinaNet', schedule, path, ('box AP',), *numbers))
    for variant, *numbers in _SEGMENTORS:
        path = f'segmentation/{variant}_upernet.pth'
        models.append(_dense(variant, 'UPerNet', '8xb2-160k_ade20k-512x512', path, ('mIoU',), *numbers))
    return models


_MODELS = tuple(_models())
FAMILY = Family(
    name='PlainMamba',
    readme='configs/plainmamba/README.md',
    models=_MODELS,
    files=tuple(model.weights for model in _MODELS),
    architecture=('Selective State Space Model', 'Continuous 2D Scan'),
    paper=('PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition', 'https://arxiv.org/abs/2403.17695'),
    code='https://github.com/ChenhongyiYang/PlainMamba',
    license='Apache License 2.0',
    backbone='PlainMamba',
    titles={'l1': 'PlainMamba-L1', 'l2': 'PlainMamba-L2', 'l3': 'PlainMamba-L3'},
    colours={'PlainMamba': '#7a5cc4'},
)
