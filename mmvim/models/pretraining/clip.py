"""Contrastive pretraining on images and their captions, in CLIP's form."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmvim.errors import UserTypeError, UserValueError
from mmvim.models.backbones.base import Backbone
from mmvim.models.classifiers.heads import pool
from mmvim.registry import MODELS

from .contrastive import contrastive_loss
from .prompts import Prompts
from .text import TextTransformer
from .tokenizer import tokenize, vocabulary_size

# Section 2.5 of the paper.
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


@MODELS.register_module()
class CLIP(BaseModel):
    """A backbone that learns which caption belongs to an image, for any backbone of mmvim.

    A PyTorch implementation of `CLIP <https://arxiv.org/abs/2103.00020>`_: the mean over the backbone's last map and a
    text, each through one linear layer, become vectors of length 1; an image is to be told from the others of the batch
    by its text, and a text by its image. Batches of several processes are one.

    A checkpoint's ``backbone.*`` goes on into any config by ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        backbone (dict): A backbone of mmvim with one output, a map.
        text (dict | None): Arguments of :class:`TextTransformer`, its vocabulary excepted.
        embed_dims (int): D, channels in which images and texts are compared.
        prompts (dict | None): For classification without training on classes: arguments of :class:`Prompts`.
        data_preprocessor (dict | None): As for any model of mmengine; it normalises.
        init_cfg (dict | None): As for any module of mmengine.

    Raises:
        ModuleNotFoundError: If instant-clip-tokenizer is not installed.
        TypeError: If the backbone is of another package.
        ValueError: If arguments do not fit each other.
    """

    def __init__(
        self,
        backbone: dict,
        text: dict | None = None,
        embed_dims: int = 512,
        prompts: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        if not isinstance(self.backbone, Backbone):
            raise UserTypeError(
                f"CLIP: expected a backbone of mmvim, such as dict(type='mmvim.VMamba'), got {backbone['type']!r}"
            )
        maps = self.backbone.maps()
        if len(maps) != 1:
            raise UserValueError(
                f'CLIP: expected a backbone with one output, a map, got one with {len(maps)} maps; set its '
                "out_indices to the last stage or block alone, and leave out_type at 'featmap'"
            )
        ((channels, _),) = maps
        self.text = TextTransformer(vocabulary_size(), **(text or {}))
        self.image_projection = nn.Linear(channels, embed_dims, bias=False)
        self.text_projection = nn.Linear(self.text.dims, embed_dims, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.prompts = Prompts(**prompts) if prompts else None
        self._classes: Tensor | None = None

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """
        Args:
            inputs: Normalised images (B, C, H, W).
            data_samples: One for each image; ``captions`` are its texts, for the loss one of them.
            mode: ``'loss'`` for the loss; ``'tensor'`` for vectors of the images (B, D); ``'predict'`` for the samples
                with ``image_embedding`` (D,) and, if they have captions, ``text_embeddings`` (captions, D); with
                ``prompts`` each has ``pred_scores`` (classes,) instead.

        Returns:
            As ``mode`` says. ``'loss'`` gives ``dict(loss=..., scale=...)``, the latter for the log.

        Raises:
            ValueError: If the whole batch is one image, or an image has other than one caption (``'loss'``).
        """
        images = self.encode_images(inputs)
        if mode == 'tensor':
            return images
        if mode == 'predict':
            return self._predict(images, data_samples)
        for sample in data_samples:
            if len(sample.captions) != 1:
                raise UserValueError(
                    f'{sample.get("img_path")} came with {len(sample.captions)} captions, the loss takes one: add '
                    "dict(type='mmvim.DrawCaption') to the pipeline of train_dataloader.dataset"
                )
        texts = self.encode_texts([sample.captions[0] for sample in data_samples])
        scale = self.scale()
        return {'loss': contrastive_loss(images, texts, scale), 'scale': scale.detach()}

    def encode_images(self, inputs: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) to vectors (B, D) of length 1."""
        return F.normalize(self.image_projection(pool(self.backbone(inputs)[-1])).float(), dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to vectors (texts, D) of length 1; what is longer than ``text.context_length`` tokens is cut."""
        tokens = tokenize(texts, self.text.context_length).to(self.log_scale.device)
        return F.normalize(self.text_projection(self.text(tokens)).float(), dim=1)

    def scale(self) -> Tensor:
        """What cosines are multiplied by, 1 / temperature, at most 100.

        The parameter itself is held down. A bound on the result alone would take the gradient away from what has once
        passed it, which then could never come back.
        """
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.log_scale.exp()

    def train(self, mode: bool = True) -> 'CLIP':
        """Switch between training and evaluation; the prompts are read anew after it."""
        self._classes = None
        return super().train(mode)

    def _predict(self, images: Tensor, samples: Sequence[BaseDataElement]) -> list[BaseDataElement]:
        if self.prompts is not None:
            if self._classes is None:
                self._classes = self.prompts.encode(self.encode_texts)
            for sample, scores in zip(samples, self.scale() * images @ self._classes.T, strict=True):
                sample.pred_scores = scores
            return list(samples)
        captions = [sample.get('captions', ()) for sample in samples]
        texts = self.encode_texts([text for of_one in captions for text in of_one]) if any(captions) else None
        for sample, image, of_one in zip(samples, images, captions, strict=True):
            sample.image_embedding = image
            if of_one:
                sample.text_embeddings, texts = texts[: len(of_one)], texts[len(of_one) :]
        return list(samples)
