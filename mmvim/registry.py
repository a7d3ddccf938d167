"""Registries of the scope ``mmvim``, children of mmengine's root registries, where mmengine is installed.

A dotted ``type='mmvim.Vim'`` in anybody's config imports this module by itself, in mmdet's scope as well as in
mmseg's; nothing here needs mmdet, mmseg or torch. Where mmengine is not installed there are no registries: models are
classes like others, and ``BACKBONES`` alone has their names.
"""

from collections.abc import Callable
from importlib.util import find_spec

#: Every whole backbone by its name: a class, or a function that builds one.
BACKBONES: dict[str, Callable] = {}

if find_spec('mmengine') is not None:
    from mmengine.registry import DATASETS as ROOT_DATASETS
    from mmengine.registry import HOOKS as ROOT_HOOKS
    from mmengine.registry import METRICS as ROOT_METRICS
    from mmengine.registry import MODELS as ROOT_MODELS
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
    from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
    from mmengine.registry import RUNNERS as ROOT_RUNNERS
    from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
    from mmengine.registry import Registry

    _MODELS = [f'mmvim.models.{part}' for part in ('backbones', 'classifiers', 'necks', 'pretraining')]
    MODELS = Registry('model', parent=ROOT_MODELS, locations=_MODELS)
    _DATA = ['mmvim.datasets.imagenet', 'mmvim.datasets.image_folder', 'mmvim.datasets.vspw']
    DATASETS = Registry('dataset', parent=ROOT_DATASETS, locations=_DATA)
    TRANSFORMS = Registry('transform', parent=ROOT_TRANSFORMS, locations=_DATA)
    _METRICS = ['mmvim.datasets.accuracy', 'mmvim.datasets.lvis', 'mmvim.datasets.video_consistency']
    METRICS = Registry('metric', parent=ROOT_METRICS, locations=_METRICS)
    HOOKS = Registry('hook', parent=ROOT_HOOKS, locations=['mmvim.engine'])
    RUNNERS = Registry('runner', parent=ROOT_RUNNERS, locations=['mmvim.engine'])
    OPTIM_WRAPPERS = Registry('optim_wrapper', parent=ROOT_OPTIM_WRAPPERS, locations=['mmvim.engine'])
    OPTIM_WRAPPER_CONSTRUCTORS = Registry(
        'optimizer wrapper constructor', parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS, locations=['mmvim.engine']
    )
    _DOTTED, _BARE = (MODELS,), (ROOT_MODELS,)
else:
    _DOTTED = _BARE = ()


def register_backbone(cls: Callable) -> Callable:
    """Register a backbone as ``mmvim.Name`` and, for configs that import mmvim, under its bare name too.

    It is a class, or a function that builds one. The bare name goes into mmengine's root registry, the parent of
    mmdet's and mmseg's alike. Only whole backbones are registered this way: a second one of the same name anywhere in
    the root would be a ``KeyError``.
    """
    BACKBONES[cls.__name__] = cls
    for registry in _BARE:
        registry.register_module(module=cls)
    return register_model(cls)


def register_model(cls: Callable) -> Callable:
    """Register a part of a model, or a baseline, as ``mmvim.Name`` alone; a class, or a function that builds one."""
    for registry in _DOTTED:
        registry.register_module(module=cls)
    return cls
