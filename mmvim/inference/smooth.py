"""Segmentation of videos that flickers less."""

from __future__ import annotations

import torch
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from mmvim.errors import UserValueError

#: Weight of the newest frame.
WEIGHT = 0.5


class Smoothing:
    """An exponential moving average of a segmentor's logits over the frames of one video.

    What is kept is one frame of logits. Nothing is moved along: where things are faster than the average forgets, they
    leave a trail behind them.

    Args:
        weight: of the newest frame, above 0; 1 smooths nothing.

    Raises:
        ValueError: if it is no such number.
    """

    def __init__(self, weight: float = WEIGHT) -> None:
        if not 0 < weight <= 1:
            raise UserValueError(f'--smooth {weight:g}: the weight of the newest frame is above 0 and at most 1')
        self.weight = weight
        self._mean: Tensor | None = None

    def __call__(self, found: BaseDataElement, threshold: float = 0.5) -> BaseDataElement:
        """A frame's prediction with the labels of the average.

        Args:
            found: of :func:`.inferencer.predict`; ``seg_logits`` (classes, H, W), probabilities where there is one.
            threshold: from which on a single output is the second class, as the head has it.

        Returns:
            The same, with ``seg_logits`` and ``pred_sem_seg`` replaced.
        """
        logits = found.seg_logits.data
        self._mean = logits if self._mean is None else self._mean.lerp(logits, self.weight)
        mean = self._mean
        labels = mean.argmax(0, keepdim=True) if len(mean) > 1 else (mean > threshold).to(torch.int64)
        found.set_data({'seg_logits': PixelData(data=mean), 'pred_sem_seg': PixelData(data=labels)})
        return found
