"""LocalVim, LocalMamba's plain model: published classifiers; no dense weights were ever released."""

from .records import Family, Flops, Model, OfficialFile, Published, classifier

_REPOSITORY = 'hunto/LocalMamba'
_README = f'README of {_REPOSITORY}'
_SEGMENTATION, _DETECTION = 'paper, table 4', 'paper, table 6'
#: Title and address of the paper of both families.
PAPER = ('LocalMamba: Visual State Space Model with Windowed Selective Scan', 'https://arxiv.org/abs/2403.09338')
CODE = f'https://github.com/{_REPOSITORY}'

_CLASSIFIERS = (
    # variant, title, file, parameters, top-1, GFLOPs, what there is to say
    ('localvim_t', 'LocalVim-T', 'local_vim_tiny.ckpt', 7_994_152, 76.2, 1.5, ''),
    ('localvim_t_cls', 'LocalVim-T, class token', 'local_vim_tiny_middle_cls_token.ckpt', 7_994_536, 77.8, None, ''),
    ('localvim_s', 'LocalVim-S', 'local_vim_small.ckpt', 27_783_784, 81.1, 4.8,
     'named, and another file linked, by the authors; whether it has the searched directions was not tried'),
)  # fmt: skip
_OURS = "upstream's but for features, norms and the way back along columns"
_SEGMENTORS = (
    # variant, official form?, parameters, GFLOPs, mIoU, mIoU of several scales and mirror images
    ('localvim_t', False, 36_057_260, None, None, None),
    ('localvim_t', True, 36_061_100, 181, 43.4, 44.4),
    ('localvim_s', False, 57_830_444, None, None, None),
    ('localvim_s', True, 57_838_124, 297, 46.4, 47.5),
)
_DETECTORS = (
    # variant, official form?, parameters, (box AP, AP50, AP75, mask AP, AP50, AP75)
    ('localvim_t', False, 30_661_792, ()),
    ('localvim_t', True, 30_665_632, (45.3, 66.2, 49.1, 39.9, 63.0, 42.5)),
    ('localvim_s', False, 51_641_680, ()),
    ('localvim_s', True, 51_649_360, ()),
)
BOX_AND_MASK = ('box AP', 'box AP50', 'box AP75', 'mask AP', 'mask AP50', 'mask AP75')


def published_file(name: str) -> OfficialFile:
    """A file of the one release that the authors made."""
    releases = f'github.com/{_REPOSITORY}/releases'
    return OfficialFile(name, f'{releases}/tag/v1.0.0', f'https://{releases}/download/v1.0.0/{name}')


_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}
_FILES = {variant: published_file(name) for variant, _, name, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        classifier(
            'LocalVim',
            variant,
            title,
            parameters=parameters,
            published=(Published('top-1', top1, _README),),
            flops=None if gflops is None else Flops(gflops, '224 x 224', _README),
            weights=_FILES[variant],
            recipe=recipe,
        )
        for variant, title, _, parameters, top1, gflops, recipe in _CLASSIFIERS
    ]


def _dense(variant: str, method: str, task: str, official: bool, long_name: str, **fields) -> Model:
    stem = method.lower().replace(' ', '_').replace('r-cnn', 'rcnn')
    name = f'{stem}_{variant}_{"ade20k" if task == "seg" else "coco"}{"_official" if official else ""}'
    starts = not (official and task == 'det' and variant == 'localvim_s')  # upstream's config names no file
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='LocalVim',
        task=task,
        method=method,
        config=f'configs/localvim/{name}.py',
        long_name=f'{long_name.replace("VARIANT", variant.replace("_", "-"))}{"_official" if official else ""}',
        start=_FILES[variant].name if starts else None,
        recipe="upstream's to the letter" if official else _OURS,
        **fields,
    )


def _segmentors() -> list[Model]:
    return [
        _dense(
            variant,
            'UPerNet',
            'seg',
            official,
            'upernet_VARIANT_8xb2-160k_ade20k-512x512',
            parameters=parameters,
            published=(
                (Published('mIoU', miou, _SEGMENTATION), Published('mIoU (ms+flip)', multi_scale, _SEGMENTATION))
                if official
                else ()
            ),
            flops=Flops(gflops, '512 x 2048', _SEGMENTATION) if official else None,
            batch_size=16,
        )
        for variant, official, parameters, gflops, miou, multi_scale in _SEGMENTORS
    ]


def _detectors() -> list[Model]:
    return [
        _dense(
            variant,
            'Mask R-CNN',
            'det',
            official,
            'mask-rcnn_VARIANT_simple-pyramid_4xb16-lsj-184k_coco',
            parameters=parameters,
            published=tuple(
                Published(metric, value, _DETECTION)
                for metric, value in zip(BOX_AND_MASK, numbers, strict=bool(numbers))
            ),
            batch_size=64,
        )
        for variant, official, parameters, numbers in _DETECTORS
    ]


FAMILY = Family(
    name='LocalVim',
    readme='configs/localvim/README.md',
    models=(*_classifiers(), *_segmentors(), *_detectors()),
    files=tuple(_FILES.values()),
    architecture=('Selective State Space Model', 'Windowed Scan'),
    paper=PAPER,
    code=CODE,
    license='Apache License 2.0',
    backbone='LocalVim',
    colours={'LocalVim': '#c2703d'},
)
