"""Registries of the scope ``mmvim``, children of mmengine's root registries.

A dotted ``type='mmvim.Vim'`` in anybody's config imports this module by itself, in mmdet's scope as well as in
mmseg's; nothing here needs mmdet, mmseg or torch.
"""

from collections.abc import Callable

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as ROOT_RUNNERS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

_MODELS = ['mmvim.models.backbones', 'mmvim.models.classifiers', 'mmvim.models.necks']
MODELS = Registry('model', parent=ROOT_MODELS, locations=_MODELS)
DATASETS = Registry('dataset', parent=ROOT_DATASETS, locations=['mmvim.datasets.imagenet'])
TRANSFORMS = Registry('transform', parent=ROOT_TRANSFORMS, locations=['mmvim.datasets.imagenet'])
METRICS = Registry('metric', parent=ROOT_METRICS, locations=['mmvim.datasets.accuracy'])
HOOKS = Registry('hook', parent=ROOT_HOOKS, locations=['mmvim.engine'])
RUNNERS = Registry('runner', parent=ROOT_RUNNERS, locations=['mmvim.engine'])
OPTIM_WRAPPERS = Registry('optim_wrapper', parent=ROOT_OPTIM_WRAPPERS, locations=['mmvim.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS, locations=['mmvim.engine']
)


def register_backbone(cls: Callable) -> Callable:
    """Register a backbone as ``mmvim.Name`` and, for configs that import mmvim, under its bare name too.

    It is a class, or a function that builds one. The bare name goes into mmengine's root registry, the parent of
    mmdet's and mmseg's alike. Only whole backbones are registered this way: a second one of the same name anywhere in
    the root would be a ``KeyError``.
    """
    ROOT_MODELS.register_module(module=cls)
    return MODELS.register_module(module=cls)
