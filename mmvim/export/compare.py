"""Holding an exported file against the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmvim import machine
from mmvim.inference.runtimes import Exported, as_sequence

from .graph import Size

#: Of the largest output, and of pixels or images: what an fp32 file may differ by, and one of 16-bit weights.
EXACT = (1e-4, 0.999)
HALF = (2e-2, 0.99)


@dataclass
class Comparison:
    """A file and its model on one image.

    Attributes:
        size: Of the image.
        difference: The largest of any output, as a part of the largest output.
        agreement: Part of pixels or images with the same class; None for maps.
        seconds: Of the model and of the file, the quicker of two runs.
    """

    size: Size
    difference: float
    agreement: float | None
    seconds: tuple[float, float]

    def fits(self, limits: tuple[float, float]) -> bool:
        """Whether the file is as exact as ``limits`` ask, one of :data:`EXACT` and :data:`HALF`."""
        return self.difference <= limits[0] and (self.agreement is None or self.agreement >= limits[1])


@torch.no_grad()
def compare(module: nn.Module, exported: Exported, images: Iterable[Tensor]) -> list[Comparison]:
    """Run both on images (1, 3, H, W) of sizes that the file takes."""
    found = []
    for image in images:
        ours, slow = _timed(lambda image=image: as_sequence(module(image)))
        theirs, quick = _timed(lambda image=image: exported(image))
        difference = max(float((a - b.to(a)).abs().max() / a.abs().max()) for a, b in zip(ours, theirs, strict=True))
        agreement = None
        if exported.description['task'] != 'maps':
            agreement = float((ours[0].argmax(1) == theirs[0].argmax(1)).double().mean())
        found.append(Comparison(tuple(image.shape[-2:]), difference, agreement, (slow, quick)))
    return found


def _timed(run) -> tuple[Sequence[Tensor], float]:
    """What is returned, and the seconds of the quicker of two runs."""
    times = []
    for _ in range(2):
        start = machine.clock()
        outputs = run()
        times.append(machine.clock() - start)
    return outputs, min(times)
