"""The inferencers of mmdet and mmseg, with weights that fit or stop the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import nn

from mmvim.checkpoints import load_model, read
from mmvim.checkpoints.class_names import class_names, colours
from mmvim.engine.amp_inference import amp_dtype, describe_amp, use_amp
from mmvim.errors import UserValueError

from .runtimes import Exported, is_exported, run_by


def build_inferencer(config: Config, weights: str, device: str | None = None, amp: bool = False) -> BaseInferencer:
    """mmdet's ``DetInferencer``, for mmrotate as well, or mmseg's ``MMSegInferencer`` for a config, by its scope.

    They read any checkpoint without running code from it, and accept official layouts; a file that does not fit is an
    error, where the libraries go on with random weights. Classes and colours are those of the checkpoint, or else of
    the config's data set, if there are as many as the model has. Otherwise they are used as any inferencer.

    Args:
        config: of a detector or a segmentor; its ``custom_imports`` have been done.
        weights: as for :func:`mmvim.checkpoints.read`.
        device: such as ``'cpu'`` or ``'cuda:0'``; a GPU if there is one, by default.
        amp: whether in mixed precision: bf16 on a CPU, ``optim_wrapper.dtype`` of the config or fp16 on a GPU. The
            model is good for nothing but inference then (:func:`mmvim.engine.amp_inference.use_amp`); results are
            fp32 all the same.

    Raises:
        ValueError: if the config is for something else.
        FileNotFoundError, ValueError, RuntimeError: as ``read`` and ``load_model``.
    """
    scope = config.get('default_scope')
    if scope in ('mmdet', 'mmrotate'):
        from mmdet.apis import DetInferencer as Library
    elif scope == 'mmseg':
        from mmseg.apis import MMSegInferencer as Library
    else:
        raise UserValueError(
            f'this config has default_scope={scope!r}: only mmdet, mmrotate and mmseg have pictures to draw'
        )
    kind = type(f'Strict{Library.__name__}', (_Strict, Library), {'_amp': amp})
    return kind(config, weights, device=device, scope=scope, show_progress=False)


class _Strict:
    """What is put in front of an inferencer: another way to load weights, no backends that keep pictures.

    Attributes:
        weights: the checkpoint, as it was given.
        report: what became of the weights.
        precision: what is to be expected of mixed precision; None without it.
    """

    _amp = False
    precision: str | None = None

    def _init_model(self, cfg: Config, weights: str, device: str) -> nn.Module:
        self.weights = weights
        if self._amp and is_exported(weights):
            raise UserValueError(f'{weights} was exported, --amp does not change it: leave --amp out')
        model = super()._init_model(cfg, None, device)
        if self._amp:
            dtype = amp_dtype(cfg, device)
            use_amp(model, dtype)
            self.precision = describe_amp(dtype, device)
        return model

    def _load_weights_to_model(self, model: nn.Module, _: None, cfg: Config) -> None:
        if is_exported(self.weights):
            exported = Exported(self.weights)
            run_by(model, exported)
            self.report = f'{self.weights} runs by {exported.description["format"]}'
            model.dataset_meta = {key: exported.description[key] for key in ('classes', 'palette')}
            return
        checkpoint = read(self.weights)
        self.report = load_model(model, checkpoint, self.weights)
        try:
            model.dataset_meta = dataset_meta(model, checkpoint, cfg)
        except ValueError as error:
            raise UserValueError(f'{self.weights}: {error}') from error

    def _init_visualizer(self, cfg: Config) -> Any:
        cfg.visualizer.vis_backends = None
        visualizer = super()._init_visualizer(cfg)
        # mmseg sorts all pixels of a class in a list to find a place for its name.
        visualizer._get_center_loc = place_of_name
        visualizer.set_image = partial(_set_image, visualizer)
        return visualizer


def _set_image(visualizer: Any, image: np.ndarray) -> None:
    """Begin with an image that stays in its place: matplotlib would shrink it for boxes that reach beyond."""
    type(visualizer).set_image(visualizer, image)
    visualizer.ax_save.autoscale(False)


def place_of_name(mask: np.ndarray) -> np.ndarray:
    """The middle pixel of the row with the most: (H, W) mask -> (x, y); where mmseg puts the name of a class."""
    row = mask.sum(axis=1).argmax()
    columns = np.flatnonzero(mask[row])
    return np.array([columns[len(columns) // 2], row])


def dataset_meta(model: nn.Module, checkpoint: Mapping[str, Any], cfg: Config) -> dict[str, list]:
    """Names and colours of a model's classes: from the checkpoint, the data set of the config, or numbered.

    Returns:
        ``{'classes': names, 'palette': RGB}``, as many as the model has classes.

    Raises:
        ValueError: if the checkpoint has as many names or colours, but they are something else.
    """
    count = number_of_classes(model)
    meta = checkpoint.get('meta')
    stored = meta.get('dataset_meta', meta) if isinstance(meta, Mapping) else {}
    stored = {str(key).lower(): value for key, value in stored.items()} if isinstance(stored, Mapping) else {}
    dataset = DATASETS.build({**deepcopy(cfg.test_dataloader.dataset), 'lazy_init': True, 'pipeline': []})
    sources = [source for source in (stored, dataset.metainfo) if _fits(source.get('classes'), count)]
    names = class_names(sources[0]['classes']) if sources else [f'class {n}' for n in range(count)]
    palette = next((source['palette'] for source in sources if _fits(source.get('palette'), count)), None)
    if palette is None:
        palette = np.random.default_rng(42).integers(0, 256, (count, 3)).tolist()
    return {'classes': names, 'palette': colours(palette)}


def number_of_classes(model: nn.Module) -> int:
    """How many classes a detector or segmentor tells apart, by the head that predicts last."""
    head = getattr(model, 'roi_head', model)
    for name in ('bbox_head', 'decode_head', 'mask_head'):
        last = getattr(head, name, None)
        if isinstance(last, nn.ModuleList):  # a cascade
            last = last[-1]
        if last is not None:
            return last.num_classes
    raise UserValueError(f'{type(model).__name__} has no head whose classes could be counted')


def _fits(values: Any, count: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count


def predict(inferencer: BaseInferencer, image: np.ndarray) -> BaseDataElement:
    """Detect or segment.

    Args:
        inferencer: of :func:`build_inferencer`.
        image: (H, W, 3) uint8, BGR.

    Raises:
        ValueError: if the image becomes less than a pixel wide in the config's test pipeline.
    """
    try:
        found = inferencer(image, return_datasamples=True)
    except cv2.error as error:
        height, width = image.shape[:2]
        raise UserValueError(
            f'{width} x {height} pixels are too narrow for the test pipeline of this config ({error.err})'
        ) from error
    return found['predictions'][0] if isinstance(found, dict) else found


def draw(inferencer: BaseInferencer, image: np.ndarray, found: BaseDataElement, score: float = 0.3) -> np.ndarray:
    """Draw a prediction by the visualizer of its library.

    Args:
        inferencer: of :func:`build_inferencer`.
        image: (H, W, 3) uint8, BGR.
        found: of :func:`predict`.
        score: confidence from which on boxes and masks are drawn.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    visualizer = inferencer.visualizer
    visualizer.dataset_meta = inferencer.model.dataset_meta
    options = {'pred_score_thr': score}
    if 'pred_sem_seg' in found:
        visualizer.alpha = 0.5
        options = {}
    rgb = np.ascontiguousarray(image[..., ::-1])
    visualizer.add_datasample('picture', rgb, found, draw_gt=False, **options)
    return visualizer.get_image()[..., ::-1]
