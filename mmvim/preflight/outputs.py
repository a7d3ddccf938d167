"""Outputs of a backbone that no head asks for, whose parameters DDP would stop at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from mmengine.registry import DefaultScope

from mmvim.models.backbones.base import Backbone
from mmvim.models.backbones.mm_vssm import MM_VSSM
from mmvim.registry import MODELS

from .finding import Finding

if TYPE_CHECKING:
    from mmengine.config import Config

_SIDE = 64  # pixels of the image that outputs are traced with; it has no content
_SHOWN = 3


def check_outputs(cfg: Config) -> Iterator[Finding]:
    """Whether every parameter of a backbone of ours gets a gradient, which several processes need.

    Necks are known by their ``start_level`` and ``end_level``, mmseg's heads by ``in_index``; of others it is supposed
    that they take all outputs. On one process nothing is checked: it trains.
    """
    wrapper = cfg.get('model_wrapper_cfg') or {}
    allowed = cfg.get('find_unused_parameters') or wrapper.get('find_unused_parameters')
    if cfg.get('launcher', 'none') == 'none' or allowed or wrapper.get('type', 'MMDistributedDataParallel') not in (
        'MMDistributedDataParallel', 'mmengine.MMDistributedDataParallel',
    ):  # fmt: skip
        return
    settings = cfg.model.get('backbone') or {}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmvim')):
        backbone = _on_meta(settings)
        if backbone is None:
            return
        outputs = backbone.out_indices
        used = _used(cfg.model, len(outputs))
        unused = _without_gradient(backbone, used)
        if not unused:
            return
        wanted = tuple(outputs[position] for position in used)
        fixed = _on_meta({**settings, 'out_indices': wanted}) if wanted != outputs else None
        mends = fixed is not None and not _without_gradient(fixed, range(len(wanted)))
    more = f' and {len(unused) - _SHOWN} more' if len(unused) > _SHOWN else ''
    names = ', '.join(f'backbone.{name}' for name in unused[:_SHOWN]) + more
    found = f'{names} get no gradient, at which several processes stop: '
    if wanted != outputs:
        found += f'of the outputs {outputs} of the backbone the model uses {wanted} alone'
    else:
        found += f'they stand behind the last of the outputs {outputs} of the backbone'
    remedy = 'find_unused_parameters=True lets them be'
    if mends:
        entries = ', '.join(f'{key}={value}' for key, value in _entries(cfg.model, wanted, used))
        remedy = f'write {entries}; or find_unused_parameters=True, which takes a little time in every step'
    yield Finding('outputs', False, found, remedy)


def _on_meta(settings: Mapping[str, Any]) -> Backbone | None:
    """The backbone without memory for its parameters; None if it is none of ours or cannot be built."""
    kind = settings.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if kind is not MM_VSSM and not (isinstance(kind, type) and issubclass(kind, Backbone)):
        return None
    arguments = {key: value for key, value in settings.items() if key not in ('type', 'init_cfg', 'pretrained')}
    try:
        with torch.device('meta'):
            return kind(**arguments)
    except (TypeError, ValueError):  # said when the model is built
        return None


def _used(model: Mapping[str, Any], count: int) -> list[int]:
    """Positions of the outputs that a neck or the heads take."""
    neck = _neck(model)
    if neck is not None:
        start, end = neck.get('start_level', 0), neck.get('end_level', -1)
        return list(range(start, count if end == -1 else end + 1))
    heads = [head for _, head in _heads(model)]
    # A head of several inputs that names none of them takes what it is given.
    if not heads or any('in_index' not in head and _several(head.get('in_channels')) for head in heads):
        return list(range(count))
    return sorted({index % count for head in heads for index in _as_list(head.get('in_index', -1))})


def _entries(model: Mapping[str, Any], wanted: tuple[int, ...], used: list[int]) -> Iterator[tuple[str, Any]]:
    """What to write so that the backbone returns what is used, and nothing else."""
    yield 'model.backbone.out_indices', wanted
    neck = _neck(model)
    if neck is not None:
        place = 'model.neck' if neck is model.get('neck') else 'model.neck[0]'
        yield f'{place}.in_channels', [neck['in_channels'][position] for position in used]
        yield f'{place}.start_level', 0
        if neck.get('end_level', -1) != -1:
            yield f'{place}.end_level', -1
        return
    count = max(used) + 1
    for place, head in _heads(model):
        index = head.get('in_index', -1)
        if index == -1:
            continue
        new = [used.index(position % count) for position in _as_list(index)]
        yield f'{place}.in_index', new if _several(index) else new[0]


def _neck(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    neck = model.get('neck')
    return neck[0] if _several(neck) else neck


def _heads(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """mmseg's heads, which choose their inputs themselves."""
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key)
        for number, head in enumerate(_as_list(heads) if heads else ()):
            yield (f'model.{key}[{number}]' if _several(heads) else f'model.{key}'), head


def _several(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _as_list(value: Any) -> Sequence[Any]:
    return value if _several(value) else [value]


def _without_gradient(backbone: Backbone, used: Sequence[int]) -> list[str]:
    """Names of trained parameters that these outputs do not depend on."""
    channels = backbone.state_dict()[backbone.input_weight].shape[1]
    outputs = backbone(torch.empty(1, channels, _SIDE, _SIDE, device='meta'))
    waiting = [outputs[position].grad_fn for position in used]
    seen, reached = set(waiting), set()
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if hasattr(node, 'variable'):
            reached.add(node.variable)
        following = {other for other, _ in node.next_functions} - seen
        seen |= following
        waiting += following
    return [name for name, value in backbone.named_parameters() if value.requires_grad and value not in reached]
