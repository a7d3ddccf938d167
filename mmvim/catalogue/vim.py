"""Vim: five published classifiers; no dense weights were ever released."""

from .records import Family, Model, OfficialFile, Published

_README = 'README of hustvl/Vim'
_PAPER = 'paper, from memory'

_CLASSIFIERS = (
    # variant, title, file, repository, parameters, top-1, top-5
    ('vim_t', 'Vim-Ti', 'vim_t_midclstok_76p1acc.pth', 'Vim-tiny-midclstok', 7_148_008, 76.1, 93.0),
    ('vim_t_plus', 'Vim-Ti+', 'vim_t_midclstok_ft_78p3acc.pth', 'Vim-tiny-midclstok', 7_250_344, 78.3, 94.2),
    ('vim_s', 'Vim-S', 'vim_s_midclstok_80p5acc.pth', 'Vim-small-midclstok', 25_796_584, 80.5, 95.1),
    ('vim_s_plus', 'Vim-S+', 'vim_s_midclstok_ft_81p6acc.pth', 'Vim-small-midclstok', 26_001_256, 81.6, 95.4),
    ('vim_b', 'Vim-B', 'vim_b_midclstok_81p9acc.pth', 'Vim-base-midclstok', 97_598_440, 81.9, 95.8),
)
_SEGMENTORS = (
    # variant, official form?, long name, parameters, mIoU of the paper, recipe
    ('vim_t', False, 'upernet_vim-t', 12_152_108, None, 'features from the residual stream'),
    ('vim_t', True, 'upernet_vim-t-branch', 12_152_108, 41.0, "upstream's to the letter"),
    ('vim_s', False, 'upernet_vim-s', 45_130_028, None, 'without RoPE'),
    ('vim_s', True, 'upernet_vim-s-rope', 45_130_028, 44.9, "upstream's to the letter"),
    ('vim_b', False, 'upernet_vim-b', 173_680_940, None, 'ours'),
)
_CASCADES = (
    # variant, official form?, parameters, (box AP, AP50, AP75, mask AP, AP50, AP75) of the paper
    ('vim_t', False, 64_619_886, None),
    ('vim_t', True, 64_619_886, (45.7, 63.9, 49.6, 39.2, 60.9, 41.7)),
    ('vim_s', False, 83_709_150, None),
    ('vim_s', True, 83_709_150, None),
    ('vim_b', False, 157_387_710, None),
    ('vim_b', True, 157_387_710, None),
)
_MASK_RCNNS = (
    # variant, official form?, parameters, batch size
    ('vim_t', False, 27_163_232, 16),
    ('vim_s', False, 46_252_496, 16),
    ('vim_b', False, 119_931_056, 16),
    ('vim_b', True, 121_833_904, 64),
)
_BOX_AND_MASK = ('box AP', 'box AP50', 'box AP75', 'mask AP', 'mask AP50', 'mask AP75')


def _file(name: str, repository: str) -> OfficialFile:
    page = f'huggingface.co/hustvl/{repository}'
    return OfficialFile(name, page, f'https://{page}/resolve/main/{name}')


FILES = tuple(_file(name, repository) for _, _, name, repository, *_ in _CLASSIFIERS)
_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}
_STARTS = {variant: name for variant, _, name, *_ in _CLASSIFIERS}


def _classifiers() -> list[Model]:
    return [
        Model(
            name=f'{variant}_imagenet',
            title=title,
            variant=variant,
            family='Vim',
            task='imagenet',
            method='classifier',
            config=f'configs/vim/{variant}_imagenet.py',
            parameters=parameters,
            long_name=f'{variant.replace("_", "-")}_in1k-224',
            published=(Published('top-1', top1, _README), Published('top-5', top5, _README)),
            weights=file,
            recipe='fine-tuned at half the stride' if variant.endswith('plus') else '',
        )
        for file, (variant, title, _, _, parameters, top1, top5) in zip(FILES, _CLASSIFIERS, strict=True)
    ]


def _dense(method: str, stem: str, variant: str, official: bool, rope: bool, **fields) -> Model:
    task = 'seg' if stem == 'upernet' else 'det'
    name = f'{stem}_{variant}_{"ade20k" if task == "seg" else "coco"}{"_official" if official else ""}'
    return Model(
        name=name,
        title=_TITLES[variant],
        variant=variant,
        family='Vim',
        task=task,
        method=method,
        config=f'configs/vim/{name}.py',
        # No published weights have RoPE.
        start=None if rope else _STARTS[variant],
        **fields,
    )


def _models() -> list[Model]:
    models = _classifiers()
    for variant, official, long_name, parameters, miou, recipe in _SEGMENTORS:
        models.append(
            _dense(
                'UPerNet',
                'upernet',
                variant,
                official,
                rope=official and variant != 'vim_t',
                parameters=parameters,
                long_name=f'{long_name}_4xb8-60k_ade20k-512x512',
                published=() if miou is None else (Published('mIoU', miou, _PAPER),),
                batch_size=32,
                recipe=recipe,
            )
        )
    for stem, method, rows in (
        ('mask_rcnn', 'Mask R-CNN', [(*row, None) for row in _MASK_RCNNS]),
        ('cascade_mask_rcnn', 'Cascade Mask R-CNN', [(*row[:3], 64, row[3]) for row in _CASCADES]),
    ):
        for variant, official, parameters, batch_size, numbers in rows:
            rope = '-rope' if official else ''
            schedule = '8xb2-1x' if batch_size == 16 else '4xb16-lsj-184k'
            long_name = f'{stem.replace("_", "-")}_{variant.replace("_", "-")}{rope}_simple-pyramid_{schedule}_coco'
            models.append(
                _dense(
                    method,
                    stem,
                    variant,
                    official,
                    rope=official,
                    parameters=parameters,
                    long_name=long_name,
                    published=tuple(
                        Published(metric, value, _PAPER)
                        for metric, value in zip(_BOX_AND_MASK, numbers or (), strict=bool(numbers))
                    ),
                    batch_size=batch_size,
                    recipe="upstream's to the letter" if official else 'ours, 12 epochs' if batch_size == 16 else '',
                )
            )
    return models


FAMILY = Family(
    name='Vim',
    readme='configs/vim/README.md',
    models=tuple(_models()),
    files=FILES,
    architecture=('Selective State Space Model', 'Bidirectional Scan'),
    paper=(
        'Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model',
        'https://arxiv.org/abs/2401.09417',
    ),
    code='https://github.com/hustvl/Vim',
    license='Apache License 2.0',
    backbone='Vim',
    titles={'tiny': 'Vim-Ti', 'tiny_plus': 'Vim-Ti+', 'small_plus': 'Vim-S+'},
    colours={'Vim': '#d1495b'},
)
