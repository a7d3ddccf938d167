"""The text of a ``metafile.yml``, from which OpenMMLab's tools learn of models."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from mmvim.catalogue import FAMILIES
from mmvim.catalogue.fields import FIELDS
from mmvim.catalogue.records import Family, Model

GENERATED = 'Written by `python tools/zoo.py write` from mmvim/catalogue; change the records there.'
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
    families = [FAMILIES[name] for name in dict.fromkeys(model.family for model in models)]
    collections = [_collection(family) for family in families if family.readme.startswith(f'configs/{own}/')]
    content = {'Collections': collections} if collections else {}
    content['Models'] = [_meta_entry(model) for model in models]
    said = (
        f'# {GENERATED}\n'
        '# Results are those that the authors publish for the weights named with them, not measured here. Without\n'
        '# published weights there are none: nobody could check them.\n'
    )
    return said + to_yaml(content)


def field_metafile(folder: Path) -> str:
    """The text of the ``metafile.yml`` of a field: its configs, of which nobody has published numbers.

    Args:
        folder: A folder of configs that :data:`mmvim.catalogue.fields.FIELDS` names.
    """
    entries = [_field_entry(path, FIELDS[folder.name]) for path in sorted(folder.glob('*.py'))]
    said = f'# {GENERATED}\n# Nobody has published numbers or weights of these models, and none were measured here.\n'
    return said + to_yaml({'Models': entries})


def _field_entry(config: Path, data_sets: dict[str, str]) -> dict:
    """Of ``METHOD_BACKBONE_BENCHMARK.py``; a name of another form is an error of ours, a ``StopIteration``."""
    return {
        'Name': config.stem,
        'In Collection': next(name for name in FAMILIES if f'_{name.lower()}_' in config.stem),
        'Config': f'configs/{config.parent.name}/{config.name}',
        'Metadata': {'Training Data': next(data_sets[end] for end in data_sets if config.stem.endswith(f'_{end}'))},
    }


def _collection(family: Family) -> dict:
    entry = {'Name': family.name, 'License': family.license, 'Metadata': {'Architecture': list(family.architecture)}}
    if family.paper:
        entry['Paper'] = dict(zip(('Title', 'URL'), family.paper, strict=True))
    entry |= {'README': family.readme, 'Code': family.code}
    return {key: value for key, value in entry.items() if value is not None}


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
