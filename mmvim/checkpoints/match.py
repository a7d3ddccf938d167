"""Filling models from checkpoints: everything fits, or the run stops and says what does not."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from mmvim.errors import UserRuntimeError, UserValueError

from .classes import explain_classes
from .families import family_of, from_official, name_of, roots_of
from .inflate import inflate_input as inflated
from .layouts.record import Layout
from .prefixes import Several, find_prefix, whole_prefixes
from .read import read
from .report import Report, shorten
from .weights import Weights, find_weights, without_wrappers

_BACKBONE = 'backbone.'
_COUNTER = 'num_batches_tracked'
_SHAPELESS = 'its tensors have not the shapes that their names promise'


def load_backbone(
    module: nn.Module,
    source: str | os.PathLike,
    prefix: str | None = None,
    expected_missing: Iterable[str] = (),
    key: str | None = None,
    inflate_input: bool = False,
) -> Report:
    """Fill a backbone from a checkpoint file, official or own, of a classifier, backbone, segmentor or detector.

    Every tensor of the backbone must be in the file with its shape. One line is logged: matched, left out, why.

    Args:
        module: the backbone.
        source: as for :func:`~mmvim.checkpoints.read.read`.
        prefix: what stands in front of the backbone's names in the file, such as ``'student.backbone.'``; found by
            itself if None.
        expected_missing: tensors that may be absent from the file and then keep their initial values, as patterns
            of tensors or modules (``'outnorm*'``).
        key: where the weights are in the file, such as ``'model_ema'``; as for
            :func:`~mmvim.checkpoints.weights.find_weights`.
        inflate_input: whether a backbone for other channels than RGB makes the weights that see them of the file's;
            see :func:`~mmvim.checkpoints.inflate.inflate_input`.

    Returns:
        What was done.

    Raises:
        FileNotFoundError, ValueError: as ``read``; ValueError also if the file holds no weights.
        RuntimeError: if the file does not fit, with the model that it seems to hold and the tensors concerned, or
            holds several such backbones. The module is as before.
    """
    name = os.path.basename(str(source))
    weights = _weights(read(source), name, key)
    own, expected = module.state_dict(), tuple(expected_missing)
    required = [key for key in own if not key.endswith(_COUNTER) and not is_expected(key, expected)]
    if prefix is None:
        state = _converted(weights.state, name)
        try:
            prefix = find_prefix(required, state) or ''
        except Several as error:
            ways = ' or '.join(f'prefix={prefix!r}' for prefix in error.prefixes)
            raise UserRuntimeError(
                f'{name} holds the backbone behind each of {error}: name the one that is meant, '
                f"init_cfg=dict(type='Pretrained', checkpoint=..., {ways})"
            ) from error
        found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        left_out = [key for key in state if not key.startswith(prefix)]
    else:
        prefix = without_wrappers(prefix, weights)
        named = {key.removeprefix(prefix): tensor for key, tensor in weights.state.items() if key.startswith(prefix)}
        if not named:
            raise UserRuntimeError(f'{name} has no tensor under {prefix}; there are {shorten(weights.state)}')
        found = _converted(named, name)
        left_out = [key for key in weights.state if not key.startswith(prefix)]
        for other in filter(None, whole_prefixes(required, found)):  # a teacher within the student
            left_out += [prefix + key for key in found if key.startswith(other)]
            found = {key: tensor for key, tensor in found.items() if not key.startswith(other)}
    report = Report(name, 'backbone', done=_said(weights, prefix))
    report.left_out = dict.fromkeys(left_out, 'not of the backbone')
    if inflate_input:
        _inflate(module, own, found, report)
    _fit_backbone(module, own, found, report, expected)
    module.load_state_dict(found, strict=False)
    _log(report)
    return report


def load_model(model: nn.Module, checkpoint: dict, source: str, new_classes: bool = False) -> Report:
    """Fill a whole model from a checkpoint; see :func:`fit_model`, which does the work. Logs one line."""
    report = fit_model(model, checkpoint, source, new_classes)
    load_fitted(model, checkpoint, report)
    return report


def fit_model(
    model: nn.Module, checkpoint: dict, source: str, new_classes: bool = False, inflate_input: bool = False
) -> Report:
    """Bring the weights in a checkpoint into the form of a whole model, such as a detector.

    ``checkpoint['state_dict']`` is replaced by the weights in our layout, the position embedding resized; tensors of
    other classes are replaced by the model's own, initial ones where that is allowed.

    Args:
        model: the model.
        checkpoint: as read, changed in place.
        source: name of the file, for messages.
        new_classes: whether tensors that differ in the number of classes only are initialised anew, for training on
            own data; otherwise they are an error.
        inflate_input: as for :func:`load_backbone`.

    Returns:
        What was done so far.

    Raises:
        ValueError: if the checkpoint holds no weights.
        RuntimeError: if tensors that both have do not fit.
    """
    name = os.path.basename(str(source))
    model = _unwrapped(model)
    weights = _weights(checkpoint, name)
    state, own = _converted(weights.state, name), model.state_dict()
    prefix = _prefix_of_whole(model, own, state, name)
    report = Report(name, 'model', done=_said(weights, prefix))
    report.left_out = {key: 'not of the model' for key in state if not key.startswith(prefix)}
    state = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    if hasattr(model, 'from_published'):
        state = model.from_published(state)
    backbone = {key.removeprefix(_BACKBONE): state[key] for key in state if key.startswith(_BACKBONE)}
    if not backbone and any(key.startswith(_BACKBONE) for key in own):
        raise UserRuntimeError(
            f'{name} holds {name_of(state)} and no tensor under {_BACKBONE}, and so is no checkpoint of this whole '
            'model; weights of a '
            f"backbone are given as model.backbone.init_cfg=dict(type='Pretrained', checkpoint='{source}')"
        )
    if backbone and isinstance(getattr(model, 'backbone', None), nn.Module):
        part = Report(name, 'backbone')
        if inflate_input:
            _inflate(model.backbone, model.backbone.state_dict(), backbone, part)
        _fit_backbone(model.backbone, model.backbone.state_dict(), backbone, part, ())
        state = {key: tensor for key, tensor in state.items() if not key.startswith(_BACKBONE)}
        state.update((_BACKBONE + key, tensor) for key, tensor in backbone.items())
        report.done += part.done
        report.left_out.update((_BACKBONE + key, reason) for key, reason in part.left_out.items())
    others = {key: (state[key], own[key]) for key in state if key in own and state[key].shape != own[key].shape}
    if others:
        counts = explain_classes(model, {key: (a.shape, b.shape) for key, (a, b) in others.items()})
        if counts is None:
            raise UserRuntimeError(f'{name} holds {name_of(state)} and does not fit the model: {_shapes(others)}')
        if not new_classes:
            raise UserRuntimeError(
                f'{name} knows {counts[0]} classes and the model {counts[1]} ({shorten(others)}): set num_classes of '
                f'the heads to {counts[0]}, or take a checkpoint that was trained with this config'
            )
        state.update((key, ours) for key, (_, ours) in others.items())
        report.new = dict.fromkeys(others, f'{counts[0]} classes in the file, {counts[1]} in the model')
    checkpoint['state_dict'] = state
    return report


def load_fitted(model: nn.Module, checkpoint: dict, report: Report) -> None:
    """Load what :func:`fit_model` prepared, and log the report in one line.

    The names are judged here, behind the load hooks by which modules of mmcv, mmdet and mmseg accept older ones.

    Raises:
        RuntimeError: if a tensor of the model is missing or one of the file is unknown.
    """
    state = checkpoint['state_dict']
    missing, unexpected = _unwrapped(model).load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith(_COUNTER)]
    if missing or unexpected:
        problems = [f'{len(missing)} missing: {shorten(missing)}'] if missing else []
        problems += [f'{len(unexpected)} unknown to the model: {shorten(unexpected)}'] if unexpected else []
        holds = f'{report.source} holds {name_of(state)} and does not fit the model'
        raise UserRuntimeError(f'{holds}: {"; ".join(problems)}')
    report.total = len(state)
    report.matched = report.total - len(report.new)
    _log(report)


def _log(report: Report) -> None:
    """One line, in mmengine's current log where there is mmengine."""
    if find_spec('mmengine') is None:
        logging.getLogger('mmvim').info('%s', report)
        return
    from mmengine.logging import print_log

    print_log(str(report), logger='current')


def _unwrapped(model: nn.Module) -> nn.Module:
    if find_spec('mmengine') is None:
        return model
    from mmengine.model import BaseTTAModel, is_model_wrapper

    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _weights(checkpoint: Mapping[str, Any], name: str, key: str | None = None) -> Weights:
    try:
        return find_weights(checkpoint, key)
    except ValueError as error:
        raise UserValueError(f'{name}: {error}') from error


def _converted(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    try:
        return from_official(state)
    except ValueError as error:
        raise UserValueError(f'{name}: {error}') from error
    except (RuntimeError, IndexError) as error:  # of torch
        raise UserValueError(f'{name}: {_SHAPELESS}') from error


def _prefix_of_whole(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> str:
    """What stands in front of the names of a whole model in a file, of a classifier's in any layout."""
    try:
        if hasattr(model, 'from_published'):
            roots = roots_of(state)
            if len(roots) > 1:
                raise Several(list(roots))
            return next(iter(roots), '')
        prefix = find_prefix([key for key in own if not key.endswith(_COUNTER)], state)
    except Several as error:
        ways = ' or '.join(f'--prefix {prefix!r}' for prefix in error.prefixes)
        raise UserRuntimeError(
            f'{name} holds the model behind each of {error}: take the one that is meant out of it, '
            f'tools/convert_checkpoint.py {name} NEW.pth {ways}'
        ) from error
    return '' if prefix is None or any(key in own for key in state) else prefix


def _said(weights: Weights, prefix: str) -> list[str]:
    """What the log says of where the weights were found."""
    return [*weights.notes, f'names behind {prefix}'] if prefix else list(weights.notes)


def _fit_backbone(
    module: nn.Module, own: Mapping[str, Tensor], found: dict[str, Tensor], report: Report, expected: tuple[str, ...]
) -> None:
    """Bring ``found`` into the form of a backbone, in place, or raise."""
    family = family_of(own)
    if family is not None:
        if family_of(found) is not family:
            raise UserRuntimeError(f'{report.source} holds {name_of(found)}, the model is {family.name}')
        variants = getattr(module, 'arch_zoo', {})
        holds = f'holds {_described(family, found, variants)}, the model is {_described(family, own, variants)}'
        titles = f'{report.source} {holds}'
        if hasattr(module, 'adapt_weights'):  # somebody else's model of the family has none
            try:
                report.done += module.adapt_weights(found)
            except ValueError as error:
                raise UserRuntimeError(f'{report.source}: {error}; it {holds}') from error
            except (RuntimeError, IndexError) as error:  # of torch
                raise UserRuntimeError(f'{report.source}: {_SHAPELESS}') from error
        for key in [key for key in found if key not in own]:
            reason = next((why for sign, why in family.left_out.items() if re.match(sign, key)), None)
            if reason is not None:
                del found[key]
                report.left_out[key] = reason
    else:
        titles = f'{report.source} holds {name_of(found)} and does not fit the backbone'
    absent = [key for key in own if key not in found and not key.endswith(_COUNTER)]
    new = [key for key in absent if is_expected(key, expected)]
    missing = [key for key in absent if key not in new]
    unknown = [key for key in found if key not in own]
    wrong = {key: (found[key], own[key]) for key in found if key in own and found[key].shape != own[key].shape}
    if missing or unknown or wrong:
        problems = [_shapes(wrong)] if wrong else []
        if list(wrong) == [getattr(module, 'input_weight', None)]:
            problems.append('init_cfg=dict(..., inflate_input=True) makes weights for other channels than RGB of these')
        problems += [f'{len(missing)} missing in the file: {shorten(missing)}'] if missing else []
        problems += [f'{len(unknown)} unknown to the model: {shorten(unknown)}'] if unknown else []
        raise UserRuntimeError(f'{titles}; {"; ".join(problems)}')
    report.new.update(dict.fromkeys(new, 'not in the file, as expected'))
    report.matched = len(found)
    report.total = len(found)


def _inflate(module: nn.Module, own: Mapping[str, Tensor], found: dict[str, Tensor], report: Report) -> None:
    """Make the weights that see the image fit its channels, in place."""
    name = getattr(module, 'input_weight', None)
    if name is None:
        raise UserValueError(f'inflate_input: {type(module).__name__} does not say which convolution sees the image')
    theirs, channels = found.get(name), own[name].shape[1]
    if theirs is None or theirs.shape[1:2] == own[name].shape[1:2]:
        return
    try:
        found[name] = inflated(theirs, channels)
    except ValueError as error:
        raise UserRuntimeError(f'{report.source}: {name}: {error}') from error
    report.done.append(f'{name} made for {channels} channels of those for RGB')


def is_expected(key: str, expected: Iterable[str]) -> bool:
    """Whether a tensor, or a module that it is in, fits one of the patterns."""
    return any(fnmatchcase(key, pattern) or fnmatchcase(key, f'{pattern}.*') for pattern in expected)


def _described(family: Layout, found: Mapping[str, Tensor], variants: Mapping[str, Mapping[str, Any]]) -> str:
    try:
        return family.describe(found, variants)
    except (ValueError, IndexError, ZeroDivisionError):  # numbers in names that are none, axes that are not there
        return f'a {family.name} of strange names or shapes'


def _shapes(wrong: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    pairs = [f'{key} {tuple(theirs.shape)} for {tuple(ours.shape)}' for key, (theirs, ours) in wrong.items()]
    return f'{len(wrong)} of other shape: {shorten(pairs)}'
