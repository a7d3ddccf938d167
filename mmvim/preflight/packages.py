"""The packages of OpenMMLab: which are there, of which line, and whether they import."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .finding import Finding, summary

if TYPE_CHECKING:
    from mmengine.config import Config

# Import name -> the distributions it comes in: OneDL's, and the original.
STACK = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmrotate': ('onedl-mmrotate', 'mmrotate'),
}
# What a package is for, and the extra of mmvim that brings it.
TASKS = {'mmdet': ('Detection', 'det'), 'mmseg': ('Segmentation', 'seg'), 'mmrotate': ('Rotated boxes', 'rotate')}
EXTRA = "in the folder of mmvim: pip install -c constraints.txt -e '.[{}]'"
ONE_FLAVOUR = f'pip uninstall -y {" ".join(name for pair in STACK.values() for name in pair)}; make test'
COMPILE = (
    'make ops, or without make: pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall onedl-mmcv '
    '(12 to 23 minutes on 2 cores)'
)


def check_packages(cfg: Config) -> Iterator[Finding]:
    """Whether the package of a config's scope, and what it uses of others, is there."""
    scope = cfg.get('default_scope')
    if scope in TASKS:
        yield find_package(scope)
    if scope in ('mmdet', 'mmrotate'):
        yield find_mmcv_ops()
    if scope == 'mmrotate':
        yield find_torchvision()
    if (cfg.get('model') or {}).get('type') in ('CLIP', 'mmvim.CLIP'):
        yield find_tokenizer()


def find_package(module: str) -> Finding:
    """Whether one of :data:`STACK` is installed."""
    task, extra = TASKS.get(module, ('mmvim', 'onedl'))
    if find_spec(module) is not None:
        return Finding(module, True, 'installed')
    return Finding(module, False, f'{task} needs {module}, which is not installed', EXTRA.format(extra))


def find_mmcv_ops() -> Finding:
    """Whether mmcv has its compiled operators, which two-stage detectors use; they are not tried."""
    if find_spec('mmcv') is not None and find_spec('mmcv._ext') is not None:
        return Finding('mmcv ops', True, 'compiled')
    found = 'Detection needs the compiled ops of mmcv (NMS, RoIAlign), which this mmcv was installed without'
    return Finding('mmcv ops', False, found, COMPILE)


def find_torchvision() -> Finding:
    """Whether torchvision, which mmrotate imports, is there and fits torch; it is imported.

    It is no part of the extra: pip takes one that belongs to another torch than that which is installed.
    """
    try:
        importlib.import_module('torchvision')
    except Exception as error:
        found = f'Rotated boxes need a torchvision that fits torch, which mmrotate imports: {summary(error)}'
        return Finding('torchvision', False, found, 'install torchvision from where torch was installed from')
    return Finding('torchvision', True, 'imports')


def find_tokenizer() -> Finding:
    """Whether the package that cuts captions into tokens is installed."""
    if find_spec('instant_clip_tokenizer') is not None:
        return Finding('tokenizer', True, 'installed')
    found = 'Images with words need instant-clip-tokenizer, which is not installed'
    return Finding('tokenizer', False, found, EXTRA.format('pretrain'))


def examine_stack() -> Iterator[Finding]:
    """OpenMMLab: which line of packages, which versions, whether they import."""
    owners = packages_distributions()
    flavours = set()
    for module, (onedl, upstream) in STACK.items():
        distributions = set(owners.get(module, ()))
        package = find_package(module)
        if not package.ok:
            yield package._replace(needed=module not in TASKS)
            continue
        if {onedl, upstream} <= distributions:
            yield Finding(module, False, f'{onedl} and {upstream} overwrite each other', ONE_FLAVOUR)
            continue
        flavour = 'OneDL' if onedl in distributions else 'OpenMMLab'
        flavours.add(flavour)
        try:
            version = importlib.import_module(module).__version__
        except Exception as error:
            remedy = 'see docs/troubleshooting.md'
            yield Finding(module, False, f'{flavour}, does not import: {summary(error)}', remedy)
        else:
            yield Finding(module, True, f'{version} ({flavour})')
    if flavours == {'OneDL'}:
        yield Finding('stack', True, 'tier 1: the OneDL packages, which the tests run with')
    elif flavours == {'OpenMMLab'}:
        found = 'tier 2: the original packages, which are not tested (torch 2.5 or older advised)'
        yield Finding('stack', True, found)
    elif flavours:
        yield Finding('stack', False, 'OneDL and original packages are mixed', ONE_FLAVOUR)
    if not any(find_spec(module) for module in ('mmdet', 'mmseg')):  # mmrotate stands on mmdet
        yield Finding('tasks', False, 'neither mmseg nor mmdet: no model can be trained', 'make demo')


def examine_mmcv_ops() -> Iterator[Finding]:
    """The compiled operators of mmcv, and whether they load; segmentation does without."""
    if find_spec('mmcv') is None:
        return
    ops = find_mmcv_ops()
    if ops.ok:
        try:
            importlib.import_module('mmcv.ops')
        except Exception as error:
            ops = Finding('mmcv ops', False, f'compiled for another torch? {summary(error)}', COMPILE)
    yield ops._replace(needed=False)
