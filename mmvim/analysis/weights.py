"""Backbones of the zoo and of configs, and published weights of ours and of the peers."""

import re
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from torch import Tensor, nn

from mmvim.catalogue import MODELS as CATALOGUE
from mmvim.checkpoints import load_backbone, read, state_dict_of
from mmvim.errors import UserRuntimeError
from mmvim.models.backbones.base import Backbone
from mmvim.models.build import build_untrained
from mmvim.models.layers import resize_pos_embed
from mmvim.paths import ROOT

from .deit import DeiT
from .models import NAMED, build, title
from .swin import Swin


def backbone(name: str, size: int) -> tuple[str, nn.Module, str | None]:
    """A backbone with random weights.

    Args:
        name: Of a backbone (:mod:`mmvim.analysis.models`), of a model of the zoo, or the path of a config.
        size: Side in pixels of the square images that it will see.

    Returns:
        Its name for people, the backbone in evaluation mode, and the name of the published file of the zoo's model.

    Raises:
        ValueError: If the name is none of these.
    """
    if name in NAMED:
        return title(name), build(name, size), None
    if name.endswith('.py'):
        return Path(name).stem, _from_config(Path(name)), None
    known = {model.name: model for model in CATALOGUE}
    if name in known:
        model = known[name]
        file = model.weights.name if model.weights else model.start
        return name, _from_config(ROOT / model.config), file
    build(name, size)  # raises, with the nearest name
    raise AssertionError


def _from_config(path: Path) -> nn.Module:
    cfg = Config.fromfile(path)
    settings = cfg.model.backbone
    if settings.get('out_type') == 'cls_token':
        settings.update(out_type='featmap', with_cls_token=True, final_norm=True)
    return build_untrained(settings, cfg.get('default_scope', 'mmvim'))


def load(model: nn.Module, path: Path) -> None:
    """Fill a backbone, ours or a peer, from a published file, without running code from it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no file of weights.
        RuntimeError: If it is another model's.
    """
    if isinstance(model, Backbone):
        load_backbone(model, path, expected_missing=model.expected_missing)
        return
    convert: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
    convert = {DeiT: _deit, Swin: _swin}.get(type(model), lambda _, state: state)
    state = convert(model, state_dict_of(read(path)))
    own = model.state_dict()
    missing = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    if missing:
        kind = type(model).__name__
        raise UserRuntimeError(f'{path} does not fit {kind}: {missing[0]} and {len(missing) - 1} more are not in it')
    model.load_state_dict({key: state[key] for key in own})


def _renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, ours in names.items():
            key = re.sub(pattern, ours, key)
        renamed[key] = value
    return renamed


_MLP = {r'\.mlp\.fc1\.': '.mlp.0.', r'\.mlp\.fc2\.': '.mlp.2.'}


def _deit(model: DeiT, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as its authors publish them, the position embedding resized to the grid of ``model``."""
    state = _renamed(state, {r'^patch_embed\.proj\.': 'patch_embed.', **_MLP})
    if 'pos_embed' in state:
        token, patches = state['pos_embed'].split([1, state['pos_embed'].shape[1] - 1], 1)
        side = round(patches.shape[1] ** 0.5)
        patches = resize_pos_embed(patches, (side, side), model.grid)
        state['pos_embed'] = patches.new_empty(1, 1 + patches.shape[1], patches.shape[2])
        state['pos_embed'][:, :1], state['pos_embed'][:, 1:] = token, patches
    return state


def _swin(model: Swin, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a classifier as its authors publish them: only the last map has a norm of its own in them."""
    names = {
        r'^patch_embed\.proj\.': 'patch_embed.',
        r'^patch_embed\.norm\.': 'patch_norm.',
        r'^layers\.(\d+)\.downsample\.': r'merging.\1.',
        r'^layers\.(\d+)\.blocks\.': r'stages.\1.',
        r'relative_position_bias_table': 'bias_table',
        r'^norm\.': f'norms.{len(model.norms) - 1}.',
        **_MLP,
    }
    first = {key: value for key, value in model.state_dict().items() if key.startswith('norms.')}
    return {**first, **_renamed(state, names)}
