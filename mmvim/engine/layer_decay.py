"""Layer-wise learning-rate decay and weight-decay groups for any backbone that can name the depth of a parameter."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.optim import Optimizer

from mmvim.errors import UserNotImplementedError, UserTypeError, UserValueError
from mmvim.registry import OPTIM_WRAPPER_CONSTRUCTORS

PARAMWISE_KEYS = {
    'layer_decay_rate', 'only_embeddings', 'custom_keys', 'norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult'
}  # fmt: skip
CUSTOM_KEYS = {'lr_mult', 'decay_mult'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """Build an optimizer whose learning rate shrinks towards the input of the backbone.

    The constructor knows no model. Every submodule with a method ``get_layer_depth(param_name, prefix) -> (layer_id,
    num_layers)`` (mmpretrain's form) is asked for the depth of its parameters; they get the learning rate ``lr *
    layer_decay_rate ** (num_layers - 1 - layer_id)``. Parameters outside of such a module (necks, heads) keep ``lr``.
    Frozen parameters are left out, shared ones counted once.

    Weight decay is 0 for parameters marked with ``_no_weight_decay = True``, for norms, biases and one-dimensional
    tensors; everything else has the optimizer's. ``custom_keys`` overrides all of these.

    Args:
        optim_wrapper_cfg (dict): Config of the optimizer wrapper, with the ``optimizer`` in it.
        paramwise_cfg (dict, optional): Any of

            - ``layer_decay_rate`` (float): Factor per layer; 1.0 asks no model for anything. Defaults to 1.0.
            - ``only_embeddings`` (bool): Decay the learning rate of layer 0 alone (patch and position embedding, class
              token) and leave all blocks at ``lr``. This is what Vim's published segmentation recipe does: its
              constructor looks for ``backbone.blocks`` while the blocks are called ``layers``. Defaults to False.
            - ``custom_keys`` (dict): ``{part of a parameter name: dict(lr_mult=..., decay_mult=...)}``, the longest
              part wins, then the first in the alphabet. ``lr_mult`` multiplies the learning rate on top of the layer's
              scale; ``decay_mult`` takes the place of every rule for the weight decay. What a key leaves out stays
              as it was.
            - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float): Weight decay of norms, of biases,
              and of one-dimensional tensors that are neither, as a multiple of the optimizer's. All default to 0.0.

    Raises:
        NotImplementedError: If the learning rate is to decay and no part of the model has ``get_layer_depth``.
        TypeError: If ``optim_wrapper_cfg`` or ``paramwise_cfg`` is not a dict.
        ValueError: If there is no ``optimizer`` with an ``lr``, or a key that is not in this list.

    Examples:
        >>> optim_wrapper = dict(
        ...     type='OptimWrapper',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     constructor='mmvim.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.92))
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        for name, value in (('optim_wrapper', optim_wrapper_cfg), ('paramwise_cfg', paramwise_cfg or {})):
            if not isinstance(value, dict):
                raise UserTypeError(f'{name}: expected a dict, got {type(value).__name__}')
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer', {}))
        if 'lr' not in self.optimizer_cfg:
            raise UserValueError("optim_wrapper needs optimizer=dict(type='AdamW', lr=..., ...) with a learning rate")
        self.paramwise_cfg = dict(paramwise_cfg or {})
        self.custom_keys: dict[str, dict] = dict(self.paramwise_cfg.get('custom_keys') or {})
        _check_keys('paramwise_cfg', self.paramwise_cfg, PARAMWISE_KEYS)
        for key, value in self.custom_keys.items():
            _check_keys(f'paramwise_cfg.custom_keys[{key!r}]', value, CUSTOM_KEYS)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for a model, bare or wrapped for distributed training."""
        while is_model_wrapper(model):
            model = model.module
        groups = self.param_groups(model)
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        table = group_table(optimizer)
        print_log(
            f'{len(groups)} parameter groups; learning-rate scale {min(row.lr_scale for row in table):.3g} to '
            f'{max(row.lr_scale for row in table):.3g}; weight decay on '
            f'{sum(row.tensors for row in table if row.weight_decay)} of {sum(row.tensors for row in table)} tensors',
            logger='current',
        )
        print_log('\n'.join(map(str, table)), logger='current', level=logging.DEBUG)
        return ROOT_OPTIM_WRAPPERS.build(dict({'type': 'OptimWrapper'}, **self.wrapper_cfg, optimizer=optimizer))

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimizer's groups, from the input of the model to its head, parameters of equal settings together.

        Every group has, besides ``params``, ``lr`` and ``weight_decay``, the entries ``group_name``, ``lr_scale`` and
        ``param_names``.
        """
        depth_of = self._depths(model)
        norms = {id(p) for module in model.modules() if _is_norm(module) for p in module.parameters(recurse=False)}
        lr, weight_decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        found: dict[tuple[int, float, float], dict[str, Any]] = {}
        for name, param in model.named_parameters():
            if not param.requires_grad:
                continue
            custom = self._custom(name)
            layer, scale = depth_of(name)
            scale *= custom.get('lr_mult', 1.0)
            decay = custom.get('decay_mult', self._decay_mult(name, param, id(param) in norms))
            group = found.setdefault(
                (layer, scale, decay),
                {
                    'params': [],
                    'param_names': [],
                    'lr': lr * scale,
                    'lr_scale': scale,
                    'weight_decay': weight_decay * decay,
                },
            )
            group['params'].append(param)
            group['param_names'].append(name)
        groups = []
        for key in sorted(found):
            layer, scale, decay = key
            siblings = sum((other[0], other[2]) == (layer, decay) for other in found)
            name = {0.0: 'no_decay', 1.0: 'decay'}.get(decay, f'decay_x{decay:g}')
            if self.paramwise_cfg.get('layer_decay_rate', 1.0) != 1.0:
                name = f'layer_{layer}_{name}'
            groups.append({**found[key], 'group_name': name if siblings == 1 else f'{name}_lr_x{scale:.3g}'})
        return groups

    def _depths(self, model: nn.Module) -> Callable[[str], tuple[int, float]]:
        """A function from a parameter's name to its layer and the scale of its learning rate."""
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        backbones = {
            f'{name}.' if name else '': module
            for name, module in model.named_modules()
            if callable(getattr(module, 'get_layer_depth', None))
        }
        # A model that hands the question down to its backbone has the method as well: the innermost one counts.
        backbones = {
            prefix: module
            for prefix, module in backbones.items()
            if not any(other != prefix and other.startswith(prefix) for other in backbones)
        }
        if not backbones and rate != 1.0:
            named = getattr(model, 'backbone', model)
            raise UserNotImplementedError(
                f'layer_decay_rate={rate} needs a backbone with get_layer_depth(param_name, prefix), which '
                f'{type(named).__name__} has not; add the method, or leave layer_decay_rate out'
            )

        only_embeddings = self.paramwise_cfg.get('only_embeddings', False)

        def depth_of(name: str) -> tuple[int, float]:
            # The innermost modules do not overlap; for a name outside of it a module answers with its last layer.
            depths = [module.get_layer_depth(name, prefix) for prefix, module in backbones.items()]
            inside = [depth for depth, prefix in zip(depths, backbones, strict=True) if name.startswith(prefix)]
            layer, num_layers = (inside or [max(depths)])[0] if rate != 1.0 else (0, 1)
            if only_embeddings and layer > 0:
                layer = num_layers - 1
            return layer, rate ** (num_layers - 1 - layer)

        return depth_of

    def _custom(self, name: str) -> dict:
        """The settings of the longest custom key that is part of ``name``."""
        matches = sorted((key for key in self.custom_keys if key in name), key=lambda key: (-len(key), key))
        return self.custom_keys[matches[0]] if matches else {}

    def _decay_mult(self, name: str, param: nn.Parameter, is_norm: bool) -> float:
        if getattr(param, '_no_weight_decay', False):
            return 0.0
        if is_norm:
            return self.paramwise_cfg.get('norm_decay_mult', 0.0)
        # Stacked biases have two dimensions and names such as conv1d_bias.
        if name.rpartition('.')[-1].endswith('bias'):
            return self.paramwise_cfg.get('bias_decay_mult', 0.0)
        if param.ndim <= 1:
            return self.paramwise_cfg.get('flat_decay_mult', 0.0)
        return 1.0


class GroupRow(NamedTuple):
    """One parameter group of an optimizer.

    Attributes:
        name: Name of the group.
        lr_scale: Its learning rate as a multiple of the recipe's.
        weight_decay: Its weight decay.
        tensors: Number of parameters in it.
    """

    name: str
    lr_scale: float
    weight_decay: float
    tensors: int

    def __str__(self) -> str:
        return f'{self.name:<24} lr x {self.lr_scale:<10.6g} weight decay {self.weight_decay:<8g} {self.tensors:>4}'


def group_table(optimizer: Optimizer | OptimWrapper) -> list[GroupRow]:
    """The parameter groups of an optimizer built by :class:`LayerDecayOptimWrapperConstructor`, one row each."""
    return [
        GroupRow(group['group_name'], group['lr_scale'], group['weight_decay'], len(group['params']))
        # The wrapper appends a group of its own, which holds the recipe's settings and no parameter.
        for group in getattr(optimizer, 'optimizer', optimizer).param_groups
    ]


def _is_norm(module: nn.Module) -> bool:
    # By name, since RMS norms come from everywhere (torch has one only since 2.4).
    return 'Norm' in type(module).__name__ and not any(True for _ in module.children())


def _check_keys(where: str, given: dict, known: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserValueError(
            f'{where}: unknown {", ".join(unknown)}; LayerDecayOptimWrapperConstructor knows {", ".join(sorted(known))}'
        )
