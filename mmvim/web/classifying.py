"""ImageNet classifiers, which no library of OpenMMLab here has an inferencer for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from torch import Tensor

from mmvim.checkpoints import load_model, read
from mmvim.checkpoints.class_names import class_names
from mmvim.errors import UserValueError


class Classifier:
    """A classifier of a config, with weights that fit.

    Args:
        config: Of an :class:`~mmvim.models.classifiers.ImageClassifier`.
        weights: As for :func:`mmvim.checkpoints.read`.
        device: Such as ``'cpu'``; a GPU if there is one, by default.

    Attributes:
        model: In evaluation mode.
        classes: Their names, from the checkpoint, or numbered.
        report: What became of the weights.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: As ``read`` and ``load_model``.
    """

    def __init__(self, config: Config, weights: str, device: str | None = None) -> None:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            self.model = MODELS.build(config.model)
            self._load = TRANSFORMS.build(config.test_dataloader.dataset.pipeline[0])
        if not hasattr(self.model, 'scores'):
            raise UserValueError(f'{type(self.model).__name__} is no classifier, detector or segmentor')
        checkpoint = read(weights)
        self.report = load_model(self.model, checkpoint, weights)
        meta = checkpoint.get('meta')
        stored = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
        names = class_names(stored['classes']) if isinstance(stored, Mapping) and stored.get('classes') else []
        count = self.model.head.num_classes
        self.classes = names if len(names) == count else [f'class {number}' for number in range(count)]
        self.model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()

    def prepare(self, path: Path) -> Tensor:
        """An image file to what the model sees of it, (1, 3, side, side)."""
        return self.normalise(self._load({'img_path': str(path), 'gt_label': 0})['inputs'])

    def normalise(self, pixels: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB to (1, 3, H, W)."""
        return self.model.data_preprocessor({'inputs': [pixels]})['inputs']

    @property
    def side(self) -> int:
        """Of the square that the model sees, in pixels."""
        return self._load.crop

    @torch.inference_mode()
    def scores(self, inputs: Tensor) -> np.ndarray:
        """Probabilities (classes,)."""
        return self.model.scores(inputs)[0].float().softmax(0).cpu().numpy()
