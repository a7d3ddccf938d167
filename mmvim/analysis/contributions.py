"""What each walk of a scan contributes: the size of its part of the sum, at every token of an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmvim.errors import UserValueError
from mmvim.ops import Walks, walks
from mmvim.ops.form import Form, Tensors, unpack

_KINDS = {
    walks.ROW: 'rows',
    walks.COLUMN: 'columns',
    walks.ROW_REVERSED: 'rows, reversed',
    walks.COLUMN_REVERSED: 'columns, reversed',
}
_TABLES = {
    walks.snake: ('rows, turning', 'rows, turning, reversed', 'columns, turning', 'columns, turning, reversed'),
    walks.strided: (
        'even rows, even columns', 'odd rows, even columns', 'even rows, odd columns', 'odd rows, odd columns'
    ),
}  # fmt: skip
_MERGE = len(Tensors._fields) + 1 + Form._fields.index('merge')


@dataclass(frozen=True)
class Contributions:
    """What K walks add at one layer.

    Attributes:
        names: Of the walks.
        norms: (K, h, w), the Euclidean norm over channels of what a walk adds at a token, gate included; 0 where it
            does not come.
    """

    names: tuple[str, ...]
    norms: np.ndarray

    def shares(self) -> np.ndarray:
        """(K,) The part of each walk in the sum of all norms."""
        sums = self.norms.sum((1, 2))
        return sums / max(sums.sum(), np.finfo(float).tiny)


def scanning_layers(model: nn.Module) -> list[str]:
    """Names of the modules of a model, or a backbone, that scan."""
    return [name for name, module in model.named_modules() if hasattr(module, 'A_logs') and hasattr(module, 'walks')]


@torch.no_grad()
def contributions(backbone: nn.Module, image: Tensor, layer: str) -> Contributions:
    """Take the sum of a layer's walks apart while the backbone looks at an image.

    What is added up in the end is what is measured: with the gate where there is one, in front of the projection.
    LocalMamba weighs its walks by attention afterwards, which is not in it; a class token is left out.

    Args:
        backbone: In evaluation mode.
        image: (1, 3, H, W), normalised.
        layer: One of :func:`scanning_layers`.

    Raises:
        ValueError: If there is no such layer, if it is not reached, or if its tokens are no map.
    """
    if layer not in scanning_layers(backbone):
        raise UserValueError(f'{layer} is no layer that scans: expected one of {", ".join(scanning_layers(backbone))}')
    mixer, listening = backbone.get_submodule(layer), _Listening()
    hooks = _listening_in(mixer, listening), _grid_of_windows(backbone, layer), _grid_of(backbone)
    with hooks[0], hooks[1] as windowed, hooks[2] as patches, listening:
        backbone(image)
    if listening.y is None:
        raise UserValueError(f'{layer} did not scan by operators of mmvim: it lies behind the last output, or takes '
                             'the kernels of mamba-ssm (MMVIM_BACKEND)')  # fmt: skip
    norms, walk = listening.y.float().norm(dim=-1), listening.walk
    names = _names(mixer, walk)
    if windowed:
        return Contributions(names, _joined(norms, walk, *windowed[0]))
    return Contributions(names, _as_map(norms[0], walk, patches).cpu().numpy())


class _Listening(TorchDispatchMode):
    """Runs a scan once more, its walks kept apart, while it is on."""

    on = False
    y: Tensor | None = None
    walk: Walks | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if self.on and func in (torch.ops.mmvim.scan.default, torch.ops.mmvim.scan_torch.default):
            self.y = func(*args[:_MERGE], False, *args[_MERGE + 1 :])[0]
            self.walk = unpack(args)[1]
        return func(*args, **(kwargs or {}))


@contextmanager
def _listening_in(mixer: nn.Module, listening: _Listening) -> Iterator[None]:
    begin = mixer.register_forward_pre_hook(lambda *_: setattr(listening, 'on', True))
    end = mixer.register_forward_hook(lambda *_: setattr(listening, 'on', False))
    try:
        yield
    finally:
        begin.remove()
        end.remove()


@contextmanager
def _grid_of_windows(backbone: nn.Module, layer: str) -> Iterator[list[tuple[int, int, int]]]:
    """Side of the windows, and height and width of the map, where the layer sees windows; filled by a forward pass."""
    found: list[tuple[int, int, int]] = []
    parts = layer.split('.')
    above = (backbone.get_submodule('.'.join(parts[:n])) for n in range(len(parts)))
    stage = next((module for module in above if getattr(module, 'window', None)), None)
    hook = stage and stage.register_forward_pre_hook(lambda _, x: found.append((stage.window, *x[0].shape[1:3])))
    try:
        yield found
    finally:
        if hook:
            hook.remove()


@contextmanager
def _grid_of(backbone: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Rows and columns of the patches of a backbone that has tokens, filled by a forward pass."""
    found: list[tuple[int, int]] = []

    def note(_: nn.Module, __: Any, made: Any) -> None:
        if isinstance(made, tuple):
            found.append(tuple(made[1]))

    hook = backbone.embedding()[0].register_forward_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def _as_map(norms: Tensor, walk: Walks, patches: list[tuple[int, int]]) -> Tensor:
    """(K, L) to (K, h, w); a class token in the middle of one row is left out."""
    if walk.height > 1 or not patches:
        return norms.unflatten(1, (walk.height, walk.width))
    height, width = patches[0]
    if norms.shape[1] == height * width + 1:
        middle = height * width // 2
        norms = torch.cat([norms[:, :middle], norms[:, middle + 1 :]], 1)
    if norms.shape[1] != height * width:
        raise UserValueError(f'{norms.shape[1]} tokens are no map of {height} x {width}')
    return norms.unflatten(1, (height, width))


def _joined(norms: Tensor, walk: Walks, side: int, height: int, width: int) -> np.ndarray:
    """(windows, K, side * side) of a map, row by row, to (K, h, w)."""
    rows, columns = -(-height // side), -(-width // side)
    windows = norms.unflatten(2, (side, side)).unflatten(0, (rows, columns))  # (rows, columns, K, side, side)
    whole = windows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return whole[:, :height, :width].cpu().numpy()


def _names(mixer: nn.Module, walk: Walks) -> tuple[str, ...]:
    if walk.kinds:
        return tuple(_KINDS[kind] for kind in walk.kinds)
    if hasattr(mixer, 'directions'):
        return tuple(mixer.directions)
    for make, names in _TABLES.items():
        if torch.equal(make(walk.height, walk.width).table, walk.table):
            return names
    return tuple(f'walk {k + 1}' for k in range(walk.num_walks))
