"""MambaOut: five published classifiers; no dense weights were ever released."""

from .records import Family, Flops, Model, OfficialFile, Published

_README = 'README of yuweihao/MambaOut'
_DETECTION, _SEGMENTATION = 'paper, table 2', 'paper, table 3'

_CLASSIFIERS = (
    # variant, title, official name, parameters, top-1, GFLOPs
    ('mambaout_femto', 'MambaOut-Femto', 'femto', 7_304_536, 78.9, 1.2),
    ('mambaout_kobe', 'MambaOut-Kobe', 'kobe', 9_141_208, 80.0, 1.5),
    ('mambaout_t', 'MambaOut-T', 'tiny', 26_545_096, 82.7, 4.5),
    ('mambaout_s', 'MambaOut-S', 'small', 48_488_072, 84.1, 9.0),
    ('mambaout_b', 'MambaOut-B', 'base', 84_813_092, 84.2, 15.8),
)
_DETECTORS = (
    # variant, parameters, GFLOPs, box AP, AP50, AP75, mask AP, AP50, AP75
    ('mambaout_t', 43_132_176, 262, 45.1, 67.3, 49.6, 41.0, 64.1, 44.1),
    ('mambaout_s', 65_075_152, 354, 47.4, 69.1, 52.4, 42.7, 66.1, 46.2),
    ('mambaout_b', 99_704_620, 495, 47.4, 69.3, 52.2, 43.0, 66.4, 46.3),
)
_SEGMENTORS = (
    # variant, parameters, GFLOPs, mIoU, mIoU of several scales and mirror images
    ('mambaout_t', 54_050_636, 938, 47.4, 48.6),
    ('mambaout_s', 75_993_612, 1032, 49.5, 50.6),
    ('mambaout_b', 112_204_136, 1178, 49.6, 51.0),
)


def _file(official: str) -> OfficialFile:
    releases, name = 'github.com/yuweihao/MambaOut/releases', f'mambaout_{official}.pth'
    return OfficialFile(name, f'{releases}/tag/model', f'https://{releases}/download/model/{name}')


_FILES = {variant: _file(official) for variant, _, official, *_ in _CLASSIFIERS}
_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        Model(
            name=f'{variant}_imagenet',
            title=title,
            variant=variant,
            family='MambaOut',
            task='imagenet',
            method='classifier',
            config=f'configs/mambaout/{variant}_imagenet.py',
            parameters=parameters,
            long_name=f'{variant.replace("_", "-")}_in1k-224',
            published=(Published('top-1', top1, _README),),
            flops=Flops(gflops, '224 x 224', _README),
            weights=_FILES[variant],
        )
        for variant, title, _, parameters, top1, gflops in _CLASSIFIERS
    ]


def _dense(variant: str, method: str, name: str, long_name: str, **fields) -> Model:
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='MambaOut',
        method=method,
        config=f'configs/mambaout/{name}.py',
        long_name=long_name,
        start=_FILES[variant].name,
        batch_size=16,
        **fields,
    )


def _detectors() -> list[Model]:
    metrics = ('box AP', 'box AP50', 'box AP75', 'mask AP', 'mask AP50', 'mask AP75')
    return [
        _dense(
            variant,
            'Mask R-CNN',
            f'mask_rcnn_{variant}_coco',
            f'mask-rcnn_{variant.replace("_", "-")}_fpn_8xb2-1x_coco',
            task='det',
            parameters=parameters,
            published=tuple(Published(m, value, _DETECTION) for m, value in zip(metrics, numbers, strict=True)),
            flops=Flops(gflops, '800 x 1280', _DETECTION),
            recipe='12 epochs; what the paper leaves open is ours',
        )
        for variant, parameters, gflops, *numbers in _DETECTORS
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
            recipe='what the paper leaves open is ours',
        )
        for variant, parameters, gflops, miou, multi_scale in _SEGMENTORS
    ]


FAMILY = Family(
    name='MambaOut',
    readme='configs/mambaout/README.md',
    models=(*_classifiers(), *_detectors(), *_segmentors()),
    files=tuple(_FILES.values()),
    architecture=('Gated CNN',),
    paper=('MambaOut: Do We Really Need Mamba for Vision?', 'https://arxiv.org/abs/2405.07992'),
    code='https://github.com/yuweihao/MambaOut',
    backbone='MambaOut',
    colours={'MambaOut': '#e0a030'},
)
