"""Reading a config, with the entries that a command line changes, and finding slips in their names."""

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmvim.engine.runner import Runner
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.moved import moved_config
from mmvim.names import nearest, slip_of
from mmvim.paths import find_configs

from .config_error import config_sentence

# What mmengine's runner reads from a config besides its arguments.
RUNNER_KEYS = {
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}


def load_config(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config.

    Args:
        path: The file.
        options: Entries to change, by their dotted keys, as ``--cfg-options`` has them.
        work_dir: Folder of the run; by default the config's, or ``work_dirs/<name of the config>``.
        launcher: What starts the processes of the run.

    Raises:
        FileNotFoundError: If the file does not exist; the nearest names are given.
        ValueError: If the config cannot be read, or an option names an entry that does not exist.
    """
    path, options = moved_config(Path(path)), dict(options or {})
    if path.is_dir():
        raise UserFileNotFoundError(f'{path} is a folder; give the config in it that is meant.')
    if not path.is_file():
        raise UserFileNotFoundError(f'There is no config {path}{_nearest_configs(path)}.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # of any class: a config is a program
        raise UserValueError(config_sentence(path, error)) from error
    check_options(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError) as error:
        raise UserValueError(f'--cfg-options do not fit the config: {error.args[0]}') from error
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', path.stem)
    return cfg


def _nearest_configs(path: Path) -> str:
    known = find_configs()
    found = nearest(path.stem, known)
    return f'; nearest: {", ".join(os.path.relpath(known[name]) for name in found)}' if found else ''


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Find slips in the keys of ``--cfg-options``, which mmengine would take for new entries.

    The last part of a key may be new, as any argument of a class may be set. A part in the middle may be new too,
    unless it looks like one that is there; the first part must be in the config or be an argument of the runner.

    Raises:
        ValueError: With the entry that was probably meant.
    """
    runner_keys = set(signature(Runner.__init__).parameters) | RUNNER_KEYS
    for key in options:
        parts = key.split('.')
        node: Any = cfg._cfg_dict
        for depth, part in enumerate(parts):
            if not isinstance(node, dict):  # an index into a list, which mmengine checks
                break
            if part not in node:
                entries = {str(entry) for entry in node} | (runner_keys if depth == 0 else set())
                meant = slip_of(part, entries)
                if part not in entries and (depth == 0 or (meant and depth < len(parts) - 1)):
                    right = '.'.join([*parts[:depth], str(meant), *parts[depth + 1 :]])
                    hint = f'; did you mean {right}?' if meant else '.'
                    raise UserValueError(f'--cfg-options {key}: the config has no entry {part}{hint}')
                break
            node = node[part]
