"""Files of weights: whether those that a run starts from are there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mmvim.paths import WEIGHTS

from .data.places import as_list
from .finding import Finding

if TYPE_CHECKING:
    from mmengine.config import Config


def check_weights(cfg: Config) -> Iterator[Finding]:
    """Whether the files that training starts from are there."""
    backbone = cfg.model.get('backbone', {})
    for source in (cfg.get('load_from'), *(entry.get('checkpoint') for entry in as_list(backbone.get('init_cfg')))):
        if source:
            yield find_checkpoint(source)


def find_checkpoint(source: str) -> Finding:
    """Whether a checkpoint is there; one with an address is fetched when it is needed.

    Raises:
        ValueError: If it is a folder.
    """
    from mmvim.checkpoints.fetch import locate

    if '://' in source:
        return Finding('checkpoint', True, source)
    try:
        return Finding('checkpoint', True, str(locate(source)))
    except FileNotFoundError as error:
        return Finding('checkpoint', False, str(error))


def examine_weights() -> Iterator[Finding]:
    """The official weights, where the configs expect them."""
    official = import_module('mmvim.catalogue').OFFICIAL_WEIGHTS
    present = [name for name in official if (WEIGHTS / name).is_file()]
    for name in present:
        yield Finding('weights', True, f'{WEIGHTS / name}, {Path(WEIGHTS, name).stat().st_size / 2**20:.0f} MiB')
    absent = [name for name in official if name not in present]
    if absent:
        found = f'{len(absent)} of {len(official)} official files are not in {WEIGHTS}/'
        example = f'{absent[0]} from {official[absent[0]]}; the tables in configs/*/README.md have all'
        remedy = f'download those that you train from into {WEIGHTS}/, such as {example}'
        yield Finding('weights', False, found, remedy, needed=False)
