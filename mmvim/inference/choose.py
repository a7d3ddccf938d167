"""From what somebody types to a config and its weights."""

from __future__ import annotations

from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmvim.catalogue import MODELS, Model
from mmvim.engine.launch import PACKAGE, REPOSITORY, check_packages, load_config


def choose(model: str, weights: str | None = None) -> tuple[Config, str]:
    """Find the config and the checkpoint of a model.

    Args:
        model: a name of the zoo, the name of a config in ``configs/`` without its folder, or the path of a config.
        weights: a checkpoint; by default the published file of the model.

    Returns:
        The config, and the path or address of the checkpoint.

    Raises:
        FileNotFoundError: if there is no such config; the nearest are named.
        ValueError: if there is no such name, with the nearest; or if there are no weights.
        ModuleNotFoundError: if mmdet or mmseg is needed and not there, with what to type.
    """
    path, published = (Path(model), None) if model.endswith('.py') else _by_name(model)
    cfg = load_config(Namespace(config=path, cfg_options={}, launcher='none', work_dir=None))
    check_packages(cfg)
    weights = weights or published or _published_for(path)
    if weights is None:
        latest = Path(cfg.work_dir, 'last_checkpoint').is_file() and find_latest_checkpoint(cfg.work_dir)
        example = f', such as {latest}' if latest else ''
        raise ValueError(f'no weights of {model} are published: name a checkpoint after it{example}')
    return cfg, weights


def _by_name(name: str) -> tuple[Path, str | None]:
    root = REPOSITORY if (REPOSITORY / 'configs').is_dir() else REPOSITORY / PACKAGE / '.mim'  # in a wheel
    zoo = {model.name: model for model in MODELS}
    if name in zoo:
        return root / zoo[name].config, _address(zoo[name])
    configs = {path.stem: path for path in (root / 'configs').rglob('*.py') if '_base_' not in path.parts}
    if name in configs:
        return configs[name], None
    nearest = get_close_matches(name, sorted({*zoo, *configs}), n=3, cutoff=0.5)
    hint = f'; nearest: {", ".join(nearest)}' if nearest else ''
    raise ValueError(f'there is no model {name!r}{hint}; see python tools/zoo.py list, or give the path of a config')


def _published_for(config: Path) -> str | None:
    """The published file of the model that a config of ours is named after."""
    for model in MODELS:
        if model.name == config.stem and Path(model.config).parts[-2:] == config.parts[-2:]:
            return _address(model)
    return None


def _address(model: Model) -> str | None:
    return model.weights.address if model.weights else None
