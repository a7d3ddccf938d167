"""Models as exporters take them: an image in, tensors out, and a graph of them with mmvim's operators in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError

#: Sides of images of open size are multiples of it: the stride of the last map of every backbone here.
MULTIPLE = 32

Size = tuple[int, int]


class Segmentor(nn.Module):
    """Logits (B, classes, H, W) of a segmentor of mmseg, in the size of the image (B, 3, H, W)."""

    task = 'segmentation'

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs = ('logits',)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.model.decode_head(self.model.extract_feat(image))
        return F.interpolate(logits, image.shape[-2:], mode='bilinear', align_corners=self.model.align_corners)


class Classifier(nn.Module):
    """Scores before the softmax (B, classes) of an :class:`~mmvim.models.ImageClassifier`."""

    task = 'classification'

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs = ('scores',)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image)


class Maps(nn.Module):
    """Maps (B, C_i, H_i, W_i) of a backbone, with its neck or without."""

    task = 'maps'

    def __init__(self, backbone: nn.Module, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        # Asked of a model: configs of backbones and necks count their outputs in many ways.
        with torch.no_grad():
            self.outputs = tuple(f'map{i}' for i in range(len(self(torch.zeros(1, 3, 64, 64)))))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(image)
        return tuple(maps if self.neck is None else self.neck(maps))


def part_of(model: nn.Module, part: str) -> Segmentor | Classifier | Maps:
    """What of a model is exported.

    Args:
        model: A segmentor, classifier or detector, in evaluation mode.
        part: ``'model'``, ``'backbone'``, or ``'neck'`` for backbone and neck.

    Raises:
        ValueError: If the model has no such part, or its heads cannot be exported.
    """
    neck = getattr(model, 'neck', None)
    if part == 'backbone':
        return Maps(model.backbone).eval()
    if part == 'neck':
        if neck is None:
            raise UserValueError(f'{type(model).__name__} has no neck: take --part backbone')
        return Maps(model.backbone, neck).eval()
    if hasattr(model, 'decode_head'):
        return Segmentor(model).eval()
    if hasattr(model, 'head') and hasattr(model, 'from_published'):
        return Classifier(model).eval()
    raise UserValueError(
        f'the heads of {type(model).__name__} find another number of boxes in each image and cannot be exported: '
        f'take --part {"backbone" if neck is None else "neck"} for what is in front of them'
    )


def trace(module: nn.Module, image: Tensor, sizes: tuple[Size, Size] | None = None) -> torch.export.ExportedProgram:
    """The graph of a module.

    Args:
        module: Of :func:`part_of`.
        image: (1, 3, H, W), one that the module takes.
        sizes: The smallest and the largest size that it shall take, multiples of :data:`MULTIPLE`; by default that of
            ``image`` alone.
    """
    shapes = None
    if sizes is not None:
        sides = (
            torch.export.Dim(name, min=low // MULTIPLE, max=high // MULTIPLE)
            for name, low, high in zip(('rows', 'columns'), *sizes, strict=True)
        )
        shapes = ({2: MULTIPLE * next(sides), 3: MULTIPLE * next(sides)},)
    with torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes=shapes)
