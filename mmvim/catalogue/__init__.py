"""What is known of every model: its config, its published weights, and its published numbers with their source.

The records are the single source of ``configs/*/metafile.yml``, ``model-index.yml``, ``docs/model_zoo.md`` and the
table of the README, see :mod:`mmvim.zoo.documents`. Importing this needs nothing but Python.
"""

from . import baselines, mambaout, vim, vmamba
from .find import find, select
from .records import METRICS, Flops, Model, OfficialFile, Published

__all__ = [
    'FILES',
    'METRICS',
    'MODELS',
    'OFFICIAL_WEIGHTS',
    'Flops',
    'Model',
    'OfficialFile',
    'Published',
    'find',
    'select',
]

MODELS: tuple[Model, ...] = (*vim.MODELS, *vmamba.MODELS, *mambaout.MODELS, *baselines.MODELS)
#: Every published file by its name, also those that no model of the zoo consists of.
FILES: dict[str, OfficialFile] = {
    file.name: file for file in (*vim.FILES, *vmamba.FILES, *mambaout.FILES, *baselines.FILES)
}
#: Name of a published file -> where people find it.
OFFICIAL_WEIGHTS = {name: file.page for name, file in FILES.items()}
