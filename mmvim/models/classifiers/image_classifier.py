"""Backbone and head, as published ImageNet files have them."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, stack

from mmvim.checkpoints.classifier import from_classifier
from mmvim.registry import MODELS


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A backbone with the head that it was published with, to evaluate published ImageNet weights.

    ``tools/test.py`` fills it from a published file: every tensor must be there.

    Args:
        backbone (dict): A backbone with one output, a map or a class token.
        head (dict): A head, such as ``dict(type='mmvim.LinearHead', in_channels=384)``.
        norm_maps (bool): Whether the backbone norms its output; not if the head norms what it has pooled, as
            MambaOut's does.
        data_preprocessor (dict | None): As for any model of mmengine.
        init_cfg (dict | None): As for any module of mmengine.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        norm_maps: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone if norm_maps else {**backbone, 'out_norm': False})
        self.head = MODELS.build(head)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """
        Args:
            inputs: Normalised images (B, 3, H, W).
            data_samples: One for each image; ``gt_label`` is its class.
            mode: ``'tensor'`` for scores before the softmax (B, classes), ``'predict'`` for the samples with these as
                ``pred_scores``, ``'loss'`` for the cross entropy.
        """
        scores = self.scores(inputs)
        if mode == 'tensor':
            return scores
        if mode == 'loss':
            labels = stack([sample.gt_label for sample in data_samples]).to(scores.device)
            return {'loss': F.cross_entropy(scores, labels)}
        for sample, score in zip(data_samples, scores, strict=True):
            sample.pred_scores = score
        return list(data_samples)

    def scores(self, inputs: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to scores before the softmax (B, classes)."""
        return self.head(self.backbone(inputs)[-1])

    @staticmethod
    def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This model's names for the weights of a published classifier, which have those of our backbones."""
        return from_classifier(state)
