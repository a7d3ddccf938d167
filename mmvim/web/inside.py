"""Looking inside a model: the receptive field of a place, and what each walk contributes at a layer."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.analysis.contributions import Contributions, contributions, scanning_layers
from mmvim.analysis.erf import SHARES, Field, area, receptive_field, smallest_square
from mmvim.engine.quiet import quiet
from mmvim.errors import UserValueError

from .seen import nearest, resized, shown_size
from .viewer import Viewer

#: Pixels of the longer side of what is looked into: a gradient through more takes minutes on a CPU.
LONGEST = 512
CLASS_SCORE = 'the score of the class at the pixel'
_FAINTEST = 1e-4  # of the largest contribution: what is still drawn


def outputs_of(viewer: Viewer) -> list[str]:
    """What a receptive field can be computed of: each map of the backbone, and the score of a segmentor."""
    side = 64
    with torch.no_grad():
        found = viewer.model.backbone(torch.zeros(1, 3, side, side, device=_device(viewer.model)))
    maps = [f'map {i + 1} of the backbone, stride {side // y.shape[2]}' for i, y in enumerate(found) if y.dim() == 4]
    return [*reversed(maps), *([CLASS_SCORE] if hasattr(viewer.model, 'encode_decode') else [])]


def layers_of(viewer: Viewer) -> list[str]:
    """Its layers that scan."""
    return scanning_layers(viewer.model.backbone)


def field_at(viewer: Viewer, image: np.ndarray, output: str, at: tuple[float, float]) -> tuple[np.ndarray, str]:
    """The receptive field of one place of an output, computed now.

    Args:
        viewer: The model.
        image: (H, W, 3) uint8, BGR.
        output: One of :func:`outputs_of`.
        at: The place, as parts of the image's height and width: 0 to 1.

    Returns:
        A picture, (h, w, 3) uint8, RGB; and what it shows, in a sentence.

    Raises:
        ValueError: If there is no such output, or it depends on no pixel there.
    """
    names = outputs_of(viewer)
    if output not in names:
        raise UserValueError(f'this model has no output of the name {output!r}: choose one of the list')
    with quiet():
        inputs, (height, width) = _prepared(viewer, image)
        place = at[0] * height / inputs.shape[2], at[1] * width / inputs.shape[3]
        if output == CLASS_SCORE:
            model: nn.Module = _ClassScore(viewer.model, place)
        else:
            model = _Level(viewer.model.backbone, int(output.split()[1]) - 1)
        with torch.enable_grad():
            field = receptive_field(model, [inputs], place)
    whole = Field(field.values[:height, :width])
    held = ', '.join(f'{share:.0%} in {area(whole, share):.1%}' for share in SHARES)
    said = (
        f'Gradient of {output} at row {at[0]:.0%}, column {at[1]:.0%}, computed on {width} x {height} pixels. '
        f'Part of the area of the smallest square that holds so much of it: {held}.'
    )
    return _draw_field(whole, image, at), said


def walks_at(viewer: Viewer, image: np.ndarray, layer: str) -> tuple[list[tuple[np.ndarray, str]], str]:
    """What each walk adds at a layer.

    Args:
        viewer: The model.
        image: (H, W, 3) uint8, BGR.
        layer: One of :func:`layers_of`.

    Returns:
        A picture, (h, w, 3) uint8, RGB, and a title for each walk; and what they show, in a sentence.

    Raises:
        ValueError: If there is no such layer.
    """
    with quiet():
        inputs, (height, width) = _prepared(viewer, image)
        found = contributions(viewer.model.backbone, inputs, layer)
    rows, columns = found.norms.shape[1:]
    # The preprocessor pads below and at the right.
    kept = max(round(rows * height / inputs.shape[2]), 1), max(round(columns * width / inputs.shape[3]), 1)
    said = (
        f'Norm over channels of what each walk adds at {layer}, for {columns} x {rows} tokens; '
        f'bright is {found.norms.max():.3g}, dark 0, for all walks alike. Percents are parts of the sum of all norms.'
    )
    shares = found.shares()
    titles = [f'{name} · {share:.0%}' for name, share in zip(found.names, shares, strict=True)]
    return list(zip(_draw_walks(found, kept, image), titles, strict=True)), said


class _Level(nn.Module):
    """One map of a backbone."""

    def __init__(self, backbone: nn.Module, level: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.level = level

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.backbone(image)[self.level],)


class _ClassScore(nn.Module):
    """The logits of the class that a segmentor sees at a place, brought to 1 there: their gradient is what counts."""

    def __init__(self, segmentor: nn.Module, at: tuple[float, float]) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.at = at

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        shape = tuple(image.shape[2:])
        meta = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'padding_size': [0, 0, 0, 0]}
        logits = self.segmentor.encode_decode(image, [meta])
        row, column = (min(int(part * side), side - 1) for part, side in zip(self.at, logits.shape[2:], strict=True))
        best = int(logits[0, :, row, column].argmax())
        score = logits[:, best : best + 1]
        return (score - score.detach() + 1,)


def _prepared(viewer: Viewer, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
    """What a model sees of an image, (1, 3, H, W), and the height and width of it that are no padding."""
    if viewer.classifies:  # all of the image, where the test pipeline cuts its middle out
        ratio = viewer.inferencer.side / min(image.shape[:2])
        size = tuple(max(round(side * ratio), 1) for side in image.shape[:2])
        pixels = torch.from_numpy(resized(image, size)[..., ::-1].copy()).permute(2, 0, 1)
        inputs = viewer.inferencer.normalise(pixels)
        height, width = inputs.shape[2:]
    else:
        data = viewer.inferencer.pipeline(image)
        batch = {'inputs': [data['inputs']], 'data_samples': [data['data_samples']]}
        height, width = data['inputs'].shape[1:]
        inputs = viewer.model.data_preprocessor(batch, False)['inputs']
    ratio = LONGEST / max(inputs.shape[2:])
    if ratio < 1:
        inputs = F.interpolate(inputs, scale_factor=ratio, mode='bilinear', antialias=True)
        height, width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    return inputs, (min(height, inputs.shape[2]), min(width, inputs.shape[3]))


def _draw_field(field: Field, image: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """Contributions by their logarithm, over the image in grey; the place, and the squares that hold the shares."""
    size = shown_size(*image.shape[:2])
    block = max(round(max(field.values.shape) / 128), 1)
    small = cv2.blur(field.values, (block, block))
    strength = 1 - np.log(np.maximum(small / small.max(), _FAINTEST)) / np.log(_FAINTEST)
    heat = cv2.resize(strength.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    drawn = _over(image, heat, size)
    scale = size[0] / field.values.shape[0], size[1] / field.values.shape[1]
    for share, thickness in zip(SHARES, (2, 1), strict=True):
        rows, columns = smallest_square(field, share)
        corners = [
            (int(columns.start * scale[1]), int(rows.start * scale[0])),
            (int(columns.stop * scale[1]) - 1, int(rows.stop * scale[0]) - 1),
        ]
        cv2.rectangle(drawn, *corners, (208, 224, 127), thickness, cv2.LINE_AA)
    middle = int(at[1] * size[1]), int(at[0] * size[0])
    cv2.drawMarker(drawn, middle, (255, 255, 255), cv2.MARKER_CROSS, 22, 4, cv2.LINE_AA)
    cv2.drawMarker(drawn, middle, (40, 40, 40), cv2.MARKER_CROSS, 20, 2, cv2.LINE_AA)
    return np.ascontiguousarray(drawn[..., ::-1])


def _draw_walks(found: Contributions, kept: tuple[int, int], image: np.ndarray) -> list[np.ndarray]:
    size = shown_size(*image.shape[:2])
    largest = max(float(found.norms.max()), np.finfo(np.float32).tiny)
    pictures = []
    for norms in found.norms[:, : kept[0], : kept[1]]:
        heat = nearest((norms / largest).astype(np.float32), size)[..., None]
        pictures.append(np.ascontiguousarray(_over(image, heat, size)[..., ::-1]))
    return pictures


def _over(image: np.ndarray, heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Heat (h, w, 1) of 0 to 1 in colours over an image in dark grey, (h, w, 3) uint8, BGR."""
    grey = cv2.cvtColor(resized(image, size), cv2.COLOR_BGR2GRAY)[..., None] * np.float32(0.45)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return (grey * (1 - 0.85 * heat**0.5) + colours * (0.85 * heat**0.5)).astype(np.uint8)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
