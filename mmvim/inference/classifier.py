"""Classifiers of images, with weights that fit."""

from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import nn

from mmvim.checkpoints import Report, load_model, read
from mmvim.datasets.imagenet import LoadForClassifier
from mmvim.errors import UserValueError
from mmvim.models.build import build_untrained


@dataclass
class Classifier:
    """What :func:`.inferencer.build_inferencer` gives for other models, as far as classifiers have it.

    Attributes:
        model: An ``mmvim.ImageClassifier`` in evaluation mode.
        pipeline: What it sees of an image.
        report: What became of the weights.
    """

    model: nn.Module
    pipeline: LoadForClassifier
    report: Report


def build_classifier(config: Config, weights: str, device: str | None = None) -> Classifier:
    """A classifier with its weights.

    Args:
        config: Whose test pipeline begins with an ``mmvim.LoadForClassifier``.
        weights: As for :func:`mmvim.checkpoints.read`.
        device: Such as ``'cpu'`` or ``'cuda:0'``; a GPU if there is one, by default.

    Raises:
        ValueError: If the config is for something else.
        FileNotFoundError, ValueError, RuntimeError: As ``read`` and ``load_model``.
    """
    first = dict(config.test_dataloader.dataset.pipeline[0])
    if first.pop('type') != 'mmvim.LoadForClassifier':
        raise UserValueError('the test pipeline of a classifier begins with mmvim.LoadForClassifier, this one does not')
    model = build_untrained(config.model, config.get('default_scope'))
    report = load_model(model, read(weights), weights)
    return Classifier(model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')),
                      LoadForClassifier(**first), report)  # fmt: skip
