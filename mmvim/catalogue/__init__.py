"""What is known of every model: its config, its published weights, and its published numbers with their source.

The records are the single source of ``configs/*/metafile.yml``, ``model-index.yml`` and ``docs/model_zoo.md``, see
:mod:`mmvim.zoo.documents`. Importing this needs nothing but Python.
"""

from mmvim.errors import UserValueError

from . import baselines, efficientvmamba, localvim, localvmamba, mambaout, mambavision, plainmamba, vim, vmamba
from .find import find, select
from .records import METRICS, Family, Flops, Model, OfficialFile, Published

__all__ = [
    'FAMILIES',
    'FILES',
    'METRICS',
    'MODELS',
    'OFFICIAL_WEIGHTS',
    'Family',
    'Flops',
    'Model',
    'OfficialFile',
    'Published',
    'add',
    'find',
    'select',
]

#: By name; the other lists follow from it.
FAMILIES: dict[str, Family] = {}
MODELS: list[Model] = []
#: Every published file by its name, also those that no model of the zoo consists of.
FILES: dict[str, OfficialFile] = {}
#: Name of a published file -> where people find it.
OFFICIAL_WEIGHTS: dict[str, str] = {}


def add(family: Family) -> None:
    """Let one more family be known, wherever models are named, listed, checked, evaluated or drawn.

    Raises:
        ValueError: If there is a family or a model of that name.
    """
    twice = {model.name for model in MODELS} & {model.name for model in family.models}
    if family.name in FAMILIES or twice:
        raise UserValueError(f'there is {", ".join(sorted(twice)) or family.name} in the catalogue already')
    FAMILIES[family.name] = family
    MODELS.extend(family.models)
    FILES.update((file.name, file) for file in family.files)
    OFFICIAL_WEIGHTS.update((file.name, file.page) for file in family.files)


for _module in (
    vim, vmamba, localvim, localvmamba, efficientvmamba, plainmamba, mambaout, mambavision, baselines,
):  # fmt: skip
    add(_module.FAMILY)
