"""The scores that Grad-CAM explains, for each kind of model."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from mmvim.errors import UserValueError

from .view import View


class Score:
    """A score of a model for an image, to be called with its inputs (1, 3, H, W).

    Args:
        model: In evaluation mode.
        view: Of the image.
        place: Row and column in ``view.picture``, or None.
        label: Number of a class, or None for what the model predicts.

    Attributes:
        label: The class that was explained, from the first call on.
        said: Which score of it, in words.
    """

    def __init__(self, model: nn.Module, view: View, place: tuple[int, int] | None, label: int | None) -> None:
        self.model, self.view, self.place, self.label = model, view, place, label
        self.said = ''

    def __call__(self, inputs: Tensor) -> Tensor:
        """(1,), differentiable."""
        raise NotImplementedError

    def _check(self, count: int) -> None:
        if self.label is not None and not 0 <= self.label < count:
            raise UserValueError(f'class {self.label}: the model has the classes 0 to {count - 1}')


class OfClassifier(Score):
    """The score of a class before the softmax."""

    def __call__(self, inputs: Tensor) -> Tensor:
        scores = self.model.scores(inputs)
        self._check(scores.shape[1])
        self.label = int(scores[0].argmax()) if self.label is None else self.label
        self.said = f'probability {scores[0].softmax(0)[self.label]:.2f}'
        return scores[:, self.label]


class OfSegmentor(Score):
    """The score of a class before the softmax, at a pixel or summed over the pixels that are of that class."""

    def __call__(self, inputs: Tensor) -> Tensor:
        sides = tuple(inputs.shape[2:])
        meta = {'ori_shape': sides, 'img_shape': sides, 'pad_shape': sides, 'padding_size': [0] * 4}
        height, width = self.view.picture.shape[:2]
        scores = self.model.encode_decode(inputs, [meta])[0, :, :height, :width]
        self._check(len(scores))
        predicted = scores.argmax(0)
        if self.place is not None:
            row, column = self.place
            self.label = int(predicted[row, column]) if self.label is None else self.label
            self.said = f'at row {row}, column {column} of the picture'
            return scores[self.label, row, column].reshape(1)
        self.label = int(predicted.flatten().mode().values) if self.label is None else self.label
        here = predicted == self.label
        if not here.any():
            raise UserValueError(f'no pixel of this image is of class {self.label}: name a place or another class')
        self.said = f'all {int(here.sum())} pixels of it'
        return scores[self.label][here].sum().reshape(1)


class OfDetector(Score):
    """The confidence of the box with the highest one; of a class, if one is asked for, and around a pixel."""

    def __call__(self, inputs: Tensor) -> Tensor:
        samples = deepcopy(self.view.samples)
        found = self.model.predict(inputs, samples, rescale=False)[0].pred_instances
        wanted = torch.ones_like(found.labels, dtype=torch.bool)
        if self.label is not None:
            wanted &= found.labels == self.label
        if self.place is not None:
            row, column = self.place
            left, top, right, bottom = found.bboxes.detach().unbind(-1)
            wanted &= (left <= column) & (column < right) & (top <= row) & (row < bottom)
        if not wanted.any():
            where = 'in this image' if self.place is None else f'around row {row}, column {column} of the picture'
            what = 'no object' if self.label is None else f'no object of class {self.label}'
            raise UserValueError(f'{what} was detected {where}: {len(found)} were in the whole image')
        scores = found.scores.where(wanted, 0)
        best = int(scores.argmax())
        self.label = int(found.labels[best])
        left, top, right, bottom = (round(float(side)) for side in found.bboxes[best].detach())
        self.said = f'confidence {scores[best].item():.2f}, in rows {top} to {bottom}, columns {left} to {right}'
        return scores[best].reshape(1)


def score_of(model: nn.Module, view: View, place: tuple[int, int] | None, label: int | None) -> Score:
    """The score of a classifier, a segmentor or a detector, told apart by what they have.

    Raises:
        ValueError: If it is none of these.
    """
    for method, kind in (
        ('scores', OfClassifier),
        ('encode_decode', OfSegmentor),
        ('add_pred_to_datasample', OfDetector),
    ):
        if hasattr(model, method):
            return kind(model, view, place, label)
    raise UserValueError(f'{type(model).__name__} is neither a classifier nor a segmentor nor a detector')
