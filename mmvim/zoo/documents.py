"""Writes what the repository says of its models: metafiles, model index, docs/model_zoo.md."""

from collections.abc import Sequence
from pathlib import Path

from mmvim.catalogue import MODELS
from mmvim.catalogue.fields import FIELDS
from mmvim.catalogue.records import Model, OfficialFile
from mmvim.files import write_whole
from mmvim.markdown import markdown_table

from .metafile import GENERATED, field_metafile, metafile, to_yaml

_CHAPTERS = {
    'imagenet': 'ImageNet-1k, 224 x 224',
    'seg': 'ADE20K',
    'det': 'COCO',
}
_INTRODUCTION = """\
# Model zoo

What is published of each model, where it stands, and how to check it here. **Nothing below was measured here yet**: the
published files have not been at hand. What was checked here: with the same weights the models give the outputs of the
official code, on stored examples of it; parameters were counted, and agree with the published counts.

```shell
python tools/zoo.py list --models 'vmamba_t*' upernet_vim_t_ade20k   # this page in a terminal; --json for programs
python tools/zoo.py check --models vim_t_imagenet                    # builds, takes a file of the official layout, runs
```

<!-- not run: needs the published files and ImageNet -->
```shell
python tools/zoo.py evaluate --task imagenet --models 'vim_*'        # published and measured, side by side
python tools/zoo.py evaluate --task imagenet --models 'vim_*' --amp  # in mixed precision, beside those in fp32
```

`evaluate` takes weights from `weights/` or downloads them there, and data sets from `data/`. It goes on after a failure
and where it was interrupted, and writes one table, with the difference of each measured number from the published
one. The table, what each run printed, and its config are in `work_dirs/zoo`. A file `weights/<config>.pth`, such as
`weights/upernet_vim_t_ade20k.pth`, is evaluated in the place of a published one: that is how weights of your own are.

*Paper, from memory* marks numbers that were not looked up again. Operations count a multiply-add as one.

For Vim no dense weights were ever released: the ImageNet numbers are all that anybody can check. **The weights of
MambaVision are not for commercial use.**
"""


def documents(root: Path) -> dict[Path, str]:
    """Every generated file by its path, with the text that it should have.

    Args:
        root: Of the repository.
    """
    files = {}
    folders = sorted({Path(model.config).parent for model in MODELS})
    for folder in folders:
        # Where one config serves several files of weights, the metafile names the one that was trained with it.
        models = [model for model in MODELS if model.config == f'{folder}/{model.name}.py']
        files[root / folder / 'metafile.yml'] = metafile(models, folder.name)
    fields = [Path('configs', name) for name in FIELDS]
    files |= {root / folder / 'metafile.yml': field_metafile(root / folder) for folder in fields}
    index = sorted([*folders, *fields])
    files[root / 'model-index.yml'] = to_yaml({'Import': [f'{folder}/metafile.yml' for folder in index]})
    files[root / 'docs' / 'model_zoo.md'] = model_zoo(MODELS)
    return files


def out_of_date(root: Path) -> list[Path]:
    """The generated files that are missing or have another text."""
    return [path for path, text in documents(root).items() if not path.is_file() or path.read_text() != text]


def write_documents(root: Path) -> list[Path]:
    """Write the files that differ from what they should be; returns them."""
    texts = documents(root)
    differ = out_of_date(root)
    for path in differ:
        write_whole(path, texts[path])
    return differ


def model_zoo(models: Sequence[Model]) -> str:
    """The text of docs/model_zoo.md."""
    parts = [_INTRODUCTION, f'## At a glance\n\n{overview(models)}']
    for task, title in _CHAPTERS.items():
        for method in dict.fromkeys(model.method for model in models if model.task == task):
            chosen = [model for model in models if (model.task, model.method) == (task, method)]
            heading = title if task == 'imagenet' else f'{title}, {method}'
            parts.append(f'## {heading}\n\n{_zoo_table(chosen)}')
    return f'<!-- {GENERATED} -->\n\n' + '\n'.join(parts)


def _zoo_table(models: Sequence[Model]) -> str:
    metrics = list(dict.fromkeys(number.metric for model in models for number in model.published))
    header = ['Model', 'Config', 'Parameters', 'GFLOPs', *metrics, 'Published in', 'Weights', 'Recipe']
    rows = [
        [
            model.title,
            f'[{Path(model.config).stem}](../{model.config})',
            f'{model.parameters / 1e6:.1f} M',
            f'{model.flops.billions:g}' if model.flops else '-',
            *(_number(model, metric) for metric in metrics),
            '; '.join(sources(model)) or '-',
            _weights(model.weights),
            model.recipe or '-',
        ]
        for model in models
    ]
    sizes = {f'{model.flops.size} ({model.flops.source})' for model in models if model.flops}
    counted = f'\nOperations are those of one image: {"; ".join(sorted(sizes))}.\n' if sizes else ''
    return markdown_table(header, rows) + counted


def _weights(file: OfficialFile | None) -> str:
    if file is None:
        return 'none published'
    link = f'[{file.name}](https://{file.page})'
    return f'{link}; {file.terms}' if file.terms else link


def overview(models: Sequence[Model]) -> str:
    """One line for each size that has a dense model."""
    header = [
        'backbone',
        'ImageNet top-1',
        'UPerNet, ADE20K: mIoU',
        'Mask R-CNN, COCO: box / mask AP',
        'weights were published of',
        'source of the numbers',
    ]
    variants = dict.fromkeys(
        model.variant for model in models if model.task != 'imagenet' and model.family != 'Baselines'
    )
    return markdown_table(header, [_overview_row([m for m in models if m.variant == variant]) for variant in variants])


def _overview_row(models: Sequence[Model]) -> list[str]:
    """What is published for a backbone; of several models of a kind, the first with numbers."""

    shown = []

    def first(method: str, *metrics: str) -> str:
        for model in models:
            if model.method == method and model.value(metrics[0]) is not None:
                shown.extend(number.source for number in model.published if number.metric in metrics)
                return ' / '.join(_number(model, metric) for metric in metrics)
        return '-'

    tasks = [task for task in ('imagenet', 'seg', 'det') if any(m.task == task and m.weights for m in models)]
    return [
        models[0].title,
        first('classifier', 'top-1'),
        first('UPerNet', 'mIoU'),
        first('Mask R-CNN', 'box AP', 'mask AP'),
        'all three' if len(tasks) == 3 else 'the classifier',
        '; '.join(dict.fromkeys(shown)),
    ]


def sources(model: Model) -> list[str]:
    """Where the published numbers of a model stand."""
    return list(dict.fromkeys(number.source for number in model.published))


def _number(model: Model, metric: str) -> str:
    value = model.value(metric)
    return '-' if value is None else f'{value:.1f}'
