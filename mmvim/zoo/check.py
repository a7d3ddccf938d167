"""Whether every model of the zoo can be built, takes a file in the layout of its published one, and runs."""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from rich.console import Console
from torch import Tensor, nn

from mmvim.catalogue.records import Model
from mmvim.checkpoints import load_model, to_official
from mmvim.checkpoints.classifier import to_classifier
from mmvim.checkpoints.families import family_of
from mmvim.checkpoints.match import is_expected
from mmvim.engine.quiet import quiet
from mmvim.errors import UserValueError
from mmvim.models.build import build_untrained
from mmvim.paths import ROOT

#: A package that no test has and some models need.
_OPTIONAL = 'mmpretrain'
#: Height and width of the image that a model is run on: no square, and no multiple of the patches.
_SIZE = (56, 88)


def check(models: Sequence[Model], zoo: Sequence[Model], console: Console) -> int:
    """Check models one after the other; a fault of one is told, and the others go on.

    Args:
        models: To check.
        zoo: All of them, the classifiers among them, whose files the others start from.
        console: Where is told what happens.

    Returns:
        Number of models with a fault.
    """
    faults, left_out = [], []
    # Models that share a config differ in the values of their weights only.
    models = list({model.config: model for model in reversed(models)}.values())[::-1]
    # Those that start from the same file, which is large, one behind the other.
    models.sort(key=lambda model: model.start or '')
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models, 1):
            start = time.perf_counter()
            try:
                with quiet():
                    said = _check_one(model, zoo, Path(folder))
            except Exception as error:  # noqa: BLE001  the others are still to be checked
                optional = isinstance(error, ModuleNotFoundError) and _OPTIONAL in str(error)
                (left_out if optional else faults).append(model.name)
                said = f'left out: {error}' if optional else f'FAILED: {type(error).__name__}: {error}'
            seconds = time.perf_counter() - start
            line = f'[{number}/{len(models)}] {model.name}: {said}, {seconds:.1f} s'
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    told = f'{len(models) - len(faults) - len(left_out)} passed, {len(left_out)} left out, {len(faults)} failed'
    told += f': {", ".join(faults)}' if faults else ''
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    return len(faults)


def _check_one(model: Model, zoo: Sequence[Model], folder: Path) -> str:
    cfg = Config.fromfile(ROOT / model.config)
    named = Path((cfg.model.backbone.get('init_cfg') or {}).get('checkpoint', '')).name or None
    if named != model.start:
        raise UserValueError(f'the config starts from {named}, the record says {model.start}')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        module = build(cfg.model)
        count = sum(parameter.numel() for parameter in module.parameters())
        if count != model.parameters:
            raise UserValueError(f'{count:,} parameters were built, the record says {model.parameters:,}')
        done = []
        classifiers = [other for other in zoo if other.variant == model.variant and other.task == 'imagenet']
        if model.start is not None and classifiers:
            _check_start(module, model.start, classifiers[0], folder)
            done.append('starts from its ImageNet file')
        name = model.weights.name if model.weights else f'{model.name}.pth'
        # Not by way of the disk: reading files is the same for all, and tried with those that training starts from.
        state = official_state(module)
        spoil(module)
        report = load_model(module, {'model' if model.task == 'imagenet' else 'state_dict': state}, name)
        _compare(state, official_state(module), name)
        run(module, model.task)
    official = 'of official layout ' if family_of(module.state_dict()) else ''
    return ', '.join([*done, f'{report.matched} tensors {official}loaded, runs'])


def build(cfg: ConfigDict) -> BaseModel:
    """The model of a config, which is changed to run on one small image and to find something in it."""
    cfg = ConfigDict(cfg)
    if cfg.data_preprocessor.get('pad_size_divisor', 0) > 32:
        cfg.data_preprocessor.pad_size_divisor = 32
    for part in ('rcnn', 'rpn') if 'roi_head' in cfg else ():
        cfg.test_cfg[part].max_per_img = 4
    if 'roi_head' in cfg:
        cfg.test_cfg.rcnn.score_thr = 0.0  # untrained, no score is high: without boxes the mask head would not run
    if 'bbox_head' in cfg:
        cfg.test_cfg.update(max_per_img=4, score_thr=0.0)
    return build_untrained(cfg)


def official_state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors of a model, with the names and shapes that a published file has; for foreign models ours.

    Raises:
        ValueError: If two tensors would have the same name.
    """
    ours = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    if family_of(ours) is None:
        return ours
    names = to_classifier(ours) if hasattr(module, 'from_published') else ours
    return to_official(names)


def spoil(module: nn.Module) -> None:
    """Put values into a model that show if they stay: not-a-number, and for integers -1."""
    for tensor in module.state_dict().values():
        tensor.fill_(math.nan if tensor.is_floating_point() else -1)


def _compare(expected: dict[str, Tensor], found: dict[str, Tensor], name: str) -> None:
    other = [key for key in expected if key not in found or not torch.equal(expected[key], found[key])]
    if other or len(expected) != len(found):
        raise UserValueError(f'{name}: {len(other)} tensors are not what stands in the file, such as {other[:3]}')


def _check_start(module: BaseModel, file: str, classifier: Model, folder: Path) -> None:
    """Have the backbone read a published file of the classifier that its training starts from."""
    path = folder / file
    if not path.exists():
        for other in folder.iterdir():
            other.unlink()
        cfg = Config.fromfile(ROOT / classifier.config)
        torch.save({'model': official_state(build(cfg.model))}, path)
    backbone = module.backbone
    own, patterns = backbone.state_dict(), backbone.expected_missing
    # Not in every file: these begin as new ones.
    new = {key: value.clone() for key, value in own.items() if is_expected(key, patterns)}
    spoil(backbone)
    backbone.load_state_dict(new, strict=False)
    backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
    backbone.init_weights()
    bad = [key for key, value in backbone.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise UserValueError(f'{file} left {len(bad)} tensors of the backbone as they were, such as {bad[:3]}')


@torch.no_grad()
def run(module: BaseModel, task: str) -> None:
    """Run a model on one image of noise, from pixels to predictions.

    Raises:
        ValueError: If a prediction is not finite, or there is none.
    """
    image = torch.randint(0, 256, (3, *_SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (sample,) = module.test_step({'inputs': [image], 'data_samples': [_sample(task)]})
    for name, value in _predictions(sample, task).items():
        if not value.numel() or not torch.isfinite(value.float()).all():
            raise UserValueError(f'{name} {tuple(value.shape)} of the prediction is empty or not finite')


def _sample(task: str) -> Any:
    meta = {'img_shape': _SIZE, 'ori_shape': _SIZE, 'scale_factor': (1.0, 1.0), 'pad_shape': _SIZE, 'img_id': 0}
    if task == 'det':
        from mmdet.structures import DetDataSample

        return DetDataSample(metainfo=meta)
    if task == 'seg':
        from mmseg.structures import SegDataSample

        return SegDataSample(metainfo=meta)
    from mmengine.structures import BaseDataElement

    return BaseDataElement(metainfo=meta)


def _predictions(sample: Any, task: str) -> dict[str, Tensor]:
    if task == 'det':
        found = sample.pred_instances
        masks = {'masks': found.masks} if 'masks' in found else {}
        return {'boxes': found.bboxes, 'scores': found.scores, **masks}
    if task == 'seg':
        return {'scores': sample.seg_logits.data, 'labels': sample.pred_sem_seg.data}
    return {'scores': sample.pred_scores}
