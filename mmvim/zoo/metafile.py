"""The text of a ``metafile.yml``, from which OpenMMLab's tools learn of models."""

from collections.abc import Sequence

import yaml

from mmvim.catalogue.records import Model

GENERATED = 'Written by `python tools/zoo.py write` from mmvim/catalogue; change the records there.'
_COLLECTIONS = {
    'Vim': {
        'License': 'Apache License 2.0',
        'Metadata': {'Architecture': ['Selective State Space Model', 'Bidirectional Scan']},
        'Paper': {
            'Title': 'Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model',
            'URL': 'https://arxiv.org/abs/2401.09417',
        },
        'README': 'configs/vim/README.md',
        'Code': 'https://github.com/hustvl/Vim',
    },
    'VMamba': {
        'License': 'MIT License',
        'Metadata': {'Architecture': ['Selective State Space Model', 'Cross Scan']},
        'Paper': {'Title': 'VMamba: Visual State Space Model', 'URL': 'https://arxiv.org/abs/2401.10166'},
        'README': 'configs/vmamba/README.md',
        'Code': 'https://github.com/MzeroMiko/VMamba',
    },
    'MambaOut': {
        'Metadata': {'Architecture': ['Gated CNN']},
        'Paper': {
            'Title': 'MambaOut: Do We Really Need Mamba for Vision?',
            'URL': 'https://arxiv.org/abs/2405.07992',
        },
        'README': 'configs/mambaout/README.md',
        'Code': 'https://github.com/yuweihao/MambaOut',
    },
    'Baselines': {
        'Metadata': {'Architecture': ['Vision Transformer', 'Swin Transformer', 'ResNet', 'ConvNeXt']},
        'README': 'configs/baselines/README.md',
    },
}
_TASKS = {
    'mIoU': 'Semantic Segmentation',
    'mIoU (ms+flip)': 'Semantic Segmentation',
    'box AP': 'Object Detection',
    'mask AP': 'Instance Segmentation',
    'top-1': 'Image Classification',
    'top-5': 'Image Classification',
}


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key, as OpenMMLab writes them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def to_yaml(value: object) -> str:
    """YAML with keys in their order and no broken lines."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)


def metafile(models: Sequence[Model], own: str) -> str:
    """The text of a ``metafile.yml``; collections belong into the folder ``own`` that has their README."""
    families = dict.fromkeys(model.family for model in models)
    collections = [
        {'Name': family, **_COLLECTIONS[family]}
        for family in families
        if _COLLECTIONS[family]['README'].startswith(f'configs/{own}/')
    ]
    content = {'Collections': collections} if collections else {}
    content['Models'] = [_meta_entry(model) for model in models]
    said = (
        f'# {GENERATED}\n'
        '# Results are those that the authors publish for the weights named with them, not measured here. Without\n'
        '# published weights there are none: nobody could check them.\n'
    )
    return said + to_yaml(content)


def _meta_entry(model: Model) -> dict:
    metadata = {'Training Data': model.dataset, 'Batch Size': model.batch_size}
    metadata['Parameters (M)'] = round(model.parameters / 1e6, 2)
    if model.flops:
        metadata['FLOPs (G)'] = model.flops.billions
    metadata['Pretrained'] = model.start
    entry = {
        'Name': model.long_name,
        'Alias': model.name,
        'In Collection': model.family,
        'Config': model.config,
        'Metadata': {key: value for key, value in metadata.items() if value is not None},
    }
    if model.weights:
        results: dict[str, dict] = {}
        for number in model.published:
            if number.metric in _TASKS:
                task = _TASKS[number.metric]
                result = {'Task': task, 'Dataset': model.dataset, 'Metrics': {}}
                results.setdefault(task, result)['Metrics'][number.metric] = number.value
        entry['Results'] = list(results.values())
        entry['Weights'] = model.weights.address
    return entry
