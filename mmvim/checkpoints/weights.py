"""Where the weights are in a checkpoint: under which of its keys, and behind which wrappers' names."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from mmvim.errors import UserValueError

from .report import shorten

# Where weights usually are; they win over whatever else is there.
_USUAL = ('state_dict', 'model')
_DEPTH = 4
_MAPPINGS = 1_000
_NAME_LENGTH = 500
_AVERAGED = re.compile(r'(^|[._])(ema|averaged?|swa|shadow)(\d*)([._]|$)', re.I)
_NO_WEIGHTS = re.compile(r'optim|sched|scaler|rng|message_hub|meta$|config|args$|loss', re.I)
# mmengine's hook swaps the two when it saves: state_dict has the average, and this the weights of the last step.
_SWAPPED = 'ema_state_dict'
# Wrappers whose names may stand anywhere in a name: of torch.compile, FSDP and activation checkpointing.
_INNER_WRAPPERS = re.compile(r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
_WRAPPERS = re.compile(r'((module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+')
# Of torch's AveragedModel and mmengine's.
_COUNTERS = {'n_averaged', 'steps'}
# What data parallel and averaging wrappers put in front of all names.
_MODULE = 'module.'


class Weights(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        state: Tensors by name, without the names of wrappers.
        wrapper: What stood in front of the names, such as ``'module.'``.
        notes: What is to be said of the choice, for the log.
    """

    state: dict[str, Tensor]
    wrapper: str
    notes: list[str]


def state_dict_of(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """The weights in a checkpoint dict; see :func:`find_weights`."""
    return find_weights(checkpoint, key).state


def find_weights(checkpoint: Mapping[str, Any], key: str | None = None) -> Weights:
    """Find the weights in a checkpoint: under ``state_dict``, ``model``, any other key, nested ones too, or bare.

    Moving averages (``model_ema``) are taken only if there is nothing else, or if they are asked for.

    Args:
        checkpoint: As read.
        key: Where the weights are, such as ``'model_ema'`` or ``'nets.student'``; found by itself if None.

    Raises:
        ValueError: If there are none, several between which nothing decides, or their names are no names.
    """
    places = _places(checkpoint)
    if key is not None and key not in places:
        there = f'there are some under {shorten(map(repr, places))}' if places else 'nor anywhere else'
        raise UserValueError(f'no weights under key={key!r}; {there}')
    if not places:
        raise UserValueError(
            f'no weights among {shorten(map(str, checkpoint))}: expected a dict of tensors, bare or under a key such '
            'as state_dict or model'
        )
    chosen = _choose({place: len(tensors) for place, tensors in places.items()}) if key is None else key
    notes = [] if chosen in ('', *_USUAL) else [f'weights of {chosen}']
    averaged = [place for place in places if _AVERAGED.search(place) and place not in (chosen, _SWAPPED)]
    if averaged and not _AVERAGED.search(chosen):
        notes.append(f'EMA weights are there too, key={averaged[0]!r} takes them')
    state, wrapper, counters = _unwrapped(places[chosen])
    if wrapper:
        notes.append(f'names behind {wrapper}')
    # Which the hook of mmcv 1 keeps in the model, under names without dots.
    averages = {f'ema_{name.replace(".", "_")}' for name in state} & state.keys()
    if averages:
        state = {name: tensor for name, tensor in state.items() if name not in averages}
        notes.append(f'left out: {len(averages)} averages of the weights')
    if counters:
        notes.append(f'left out: {shorten(counters)} (counts averaged steps)')
    return Weights(state, wrapper, notes)


def _places(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """All dicts with tensors of their own in a checkpoint, by the dotted keys that lead to them."""
    found: dict[str, dict[str, Tensor]] = {}
    waiting: list[tuple[str, Mapping[str, Any], int]] = [('', checkpoint, 0)]
    for place, content, depth in waiting:  # which grows meanwhile
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            strange = next((key for key in tensors if len(key) > _NAME_LENGTH or not key.isprintable()), None)
            if strange is not None:
                raise UserValueError(f'the name {strange[:40]!r} of a tensor is no short line of text')
            found[place] = tensors
        for key, value in content.items() if depth < _DEPTH else ():
            inside = isinstance(key, str) and isinstance(value, Mapping) and not _NO_WEIGHTS.search(key)
            if inside and len(waiting) < _MAPPINGS:
                waiting.append((f'{place}.{key}' if place else key, value, depth + 1))
    return found


def _choose(counts: Mapping[str, int]) -> str:
    """The place of a model's weights, from the number of tensors at each."""
    usual = next((place for place in _USUAL if place in counts), None)
    if usual is not None:
        return usual
    plain = {place: count for place, count in counts.items() if not _AVERAGED.search(place)} or counts
    # A few tensors beside a model are its trainer's: counts of steps, centres of a loss.
    large = [place for place, count in plain.items() if 2 * count > max(plain.values())]
    if len(large) > 1:
        raise UserValueError(
            f'weights under {" and under ".join(place or "no key" for place in large)}: name those that are meant by '
            f'{" or ".join(f"key={place!r}" for place in large)}'
        )
    return large[0]


def _unwrapped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str, list[str]]:
    """Tensors by their names without those of wrappers, what stood in front, and the averaging's own counters."""
    state = {without_inner_wrappers(key): tensor for key, tensor in tensors.items()}
    if len(state) < len(tensors):
        return tensors, '', []
    first = next((key for key in tensors if '.' in key), '')
    wrapper = _WRAPPERS.match(first)
    counters: list[str] = []
    while any(key.startswith(_MODULE) for key in state):
        if not all(key.startswith(_MODULE) or key in _COUNTERS for key in state):
            wrapper = _INNER_WRAPPERS.match(first)
            break
        counters += [key for key in state if not key.startswith(_MODULE)]
        state = {key.removeprefix(_MODULE): tensor for key, tensor in state.items() if key.startswith(_MODULE)}
    return state, wrapper[0] if wrapper else '', counters


def without_inner_wrappers(name: str) -> str:
    """A name without those of wrappers that add a part to it anywhere."""
    return _INNER_WRAPPERS.sub('', name)


def without_wrappers(prefix: str, weights: Weights) -> str:
    """A prefix that somebody wrote, with or without a dot at its end and names of wrappers, as ``weights`` have it."""
    prefix = without_inner_wrappers(prefix if prefix.endswith('.') or not prefix else prefix + '.')
    for _ in range(weights.wrapper.count(_MODULE)):
        prefix = prefix.removeprefix(_MODULE)
    return prefix
