"""From what somebody types to a config and its weights."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmvim.catalogue import MODELS, Model
from mmvim.errors import UserModuleNotFoundError, UserValueError
from mmvim.names import hint
from mmvim.paths import ROOT, find_configs
from mmvim.preflight.config import load_config
from mmvim.preflight.finding import demand
from mmvim.preflight.packages import check_packages

from .runtimes import config_of, is_exported


def choose(model: str, weights: str | None = None) -> tuple[Config, str]:
    """Find the config and the checkpoint of a model.

    Args:
        model: a name of the zoo, the name of a config in ``configs/`` without its folder, the path of a config, or that
            of an exported file, which is its own checkpoint.
        weights: a checkpoint; by default the published file of the model.

    Returns:
        The config, and the path or address of the checkpoint.

    Raises:
        FileNotFoundError: if there is no such config; the nearest are named.
        ValueError: if there is no such name, with the nearest; or if there are no weights.
        ModuleNotFoundError: if mmdet or mmseg is needed and not there, with what to type.
    """
    if is_exported(model):
        if weights:
            raise UserValueError(f'{model} has its weights in it: leave out {weights}')
        return config_of(model), model
    path, published = (Path(model), None) if model.endswith('.py') else _by_name(model)
    cfg = load_config(path)
    demand(check_packages(cfg), UserModuleNotFoundError)
    weights = weights or published or _published_for(Path(cfg.filename))
    if weights is None:
        latest = Path(cfg.work_dir, 'last_checkpoint').is_file() and find_latest_checkpoint(cfg.work_dir)
        example = f', such as {latest}' if latest else ''
        raise UserValueError(f'no weights of {model} are published: name a checkpoint after it{example}')
    return cfg, weights


def _by_name(name: str) -> tuple[Path, str | None]:
    zoo = {model.name: model for model in MODELS}
    if name in zoo:
        return ROOT / zoo[name].config, _address(zoo[name])
    configs = find_configs()
    if name in configs:
        return configs[name], None
    raise UserValueError(
        f'there is no model {name!r}{hint(name, {*zoo, *configs})}; see python tools/zoo.py list, or give the path of '
        'a config'
    )


def _published_for(config: Path) -> str | None:
    """The published file of the model that a config of ours is named after."""
    for model in MODELS:
        if model.name == config.stem and Path(model.config).parts[-2:] == config.parts[-2:]:
            return _address(model)
    return None


def _address(model: Model) -> str | None:
    return model.weights.address if model.weights else None
