"""How much token j feeds token i in a selective scan: the matrix that a scan multiplies its input with.

Unrolled, the recurrence of :func:`mmvim.ops.scan` says for each channel and walk, s and r being the steps of i and j::

    y[i] = sum over r <= s of  (sum over n of C[s, n] exp(A[n] (d[r + 1] + ... + d[s])) B[r, n]) d[r]  u[r]  +  D u[s]

times the scale and silu(z[i]): a row of a lower triangular matrix in the order of the walk, as attention has one of
softmax(q k). Rows are computed one by one, from what a model hands to the operator, whichever kernel it runs on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmvim.errors import UserRuntimeError, UserValueError
from mmvim.ops.form import Form, Tensors, unpack
from mmvim.ops.walking import walked
from mmvim.ops.walks import COLUMN, COLUMN_REVERSED, ROW, ROW_REVERSED, Walks

from .watch import Watch, stage_index

_KINDS = {ROW: 'rows', COLUMN: 'columns', ROW_REVERSED: 'rows, backwards', COLUMN_REVERSED: 'columns, backwards'}


@dataclass
class Scan:
    """One call of the operator, as :mod:`mmvim.ops.form` has it."""

    tensors: Tensors
    walks: Walks
    form: Form

    def row(self, token: int, batch: int = 0) -> Tensor:
        """What each step of each walk gives to a token, for each channel.

        Args:
            token: i, in raster order.
            batch: Number of the image, or of the window.

        Returns:
            (K, S, D), float64: times u in walking order and summed over K and S it is the result of the scan at the
            token. 0 where a walk does not visit it.
        """
        _, _, A, _, _, D, z, bias, dt_weight = self.tensors
        in_steps = self.form.param_step
        delta, B, C = (
            walked(x[batch : batch + 1], self.walks, in_steps)[0].double()
            for x in (self.tensors.delta, self.tensors.B, self.tensors.C)
        )
        order = self.walks.tokens(delta.device)
        out = delta.new_zeros(*order.shape, A.shape[1])
        for k, tokens in enumerate(order):
            visited = (tokens == token).nonzero()
            if not len(visited):
                continue
            here = int(visited)
            own = [None if x is None else x[k % len(x)].double() for x in (A, D, bias, dt_weight)]
            out[k, : here + 1] = _row_of_walk(delta[k, : here + 1], B[k, : here + 1], C[k, here], *own, self.form)
        out *= self.form.scale
        return out if z is None else out * F.silu(z[batch, token].double())

    def feeds(self, token: int, batch: int = 0) -> Tensor:
        """(K, L): sizes of what each token gives to ``token`` along each walk, averaged over the channels."""
        sizes = self.row(token, batch).abs().mean(-1)
        order = self.walks.tokens(sizes.device)
        spare = self.walks.num_tokens  # for steps without a token
        return sizes.new_zeros(len(sizes), spare + 1).scatter_add(1, order.where(order >= 0, spare), sizes)[:, :-1]

    def titles(self) -> list[str]:
        """What the walks are called."""
        return [_KINDS[kind] for kind in self.walks.kinds] or [f'walk {k + 1}' for k in range(self.walks.num_walks)]


def _row_of_walk(
    delta: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor | None, bias: Tensor | None, dt_weight: Tensor | None,
    form: Form,
) -> Tensor:  # fmt: skip
    """(S', D) for the last of S' steps: delta (S', D or R), B (S', N), C (N,), A (D, N)."""
    delta = delta if dt_weight is None else delta @ dt_weight.T
    delta = delta if bias is None else delta + bias
    delta = F.softplus(delta) if form.delta_softplus else delta
    summed = delta.cumsum(0)
    since = summed[-1] - summed
    # State by state: with all at once memory would grow with N.
    row = sum(torch.exp(A[:, n] * since) * (B[:, n, None] * C[n]) for n in range(len(C))) * delta
    if D is not None:
        row[-1] += D
    return row


class _Recorder(TorchDispatchMode):
    """Sees the calls of the operator; every family's scans end there."""

    def __init__(self) -> None:
        super().__init__()
        self.listening, self.calls = False, []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if self.listening and func in (torch.ops.mmvim.scan.default, torch.ops.mmvim.scan_torch.default):
            self.calls.append(args)
        return func(*args, **(kwargs or {}))


def record_scans(model: nn.Module, inputs: Tensor, part: nn.Module) -> list[Scan]:
    """The scans that a part of a model does for its inputs, in order.

    Raises:
        RuntimeError: If it does none that can be seen.
    """
    recorder = _Recorder()

    def listen(on: bool) -> None:
        recorder.listening = on

    hooks = [
        part.register_forward_pre_hook(lambda *_: listen(True)),
        part.register_forward_hook(lambda *_: listen(False)),
    ]
    try:
        with torch.no_grad(), recorder:
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not recorder.calls:
        raise UserRuntimeError(
            f'nothing is scanned in this stage of {type(model).__name__}: name another one; with mamba-ssm\'s kernels '
            'set MMVIM_BACKEND=torch'
        )  # fmt: skip
    found = []
    for call in recorder.calls:
        tensors, walks, form, _ = unpack(call)
        found.append(Scan(Tensors(*(None if x is None else x.detach() for x in tensors)), walks, form))
    return found


@dataclass
class ScanMap:
    """What the tokens of a map give to one of them.

    Attributes:
        walks: (K, h, w), along each walk: sizes, averaged over the channels.
        titles: Names of the walks.
        token: Row and column of the token in the map.
    """

    walks: np.ndarray
    titles: list[str]
    token: tuple[int, int]


def scan_map(
    backbone: nn.Module, inputs: Tensor, place: tuple[float, float], stage: int = -1, block: int = -1
) -> ScanMap:
    """How much each token feeds one of them in the scan of a block.

    What stands around the scan is not in it: the convolution in front, projections, the residual connection. Where a
    model scans within windows (MambaVision), what is outside of the token's own is 0.

    Args:
        backbone: Of mmvim, in evaluation mode.
        inputs: (1, 3, H, W), normalised.
        place: Row and column as parts of H and W.
        stage: Number of the stage, or of the block of a plain backbone; negative from the end.
        block: Which of the scans of the stage, negative from the end.

    Raises:
        TypeError: If the backbone is another's.
        ValueError: If there is no such stage or scan.
        RuntimeError: If nothing is scanned in that stage.
    """
    sides: list[tuple[int, int]] = []
    with Watch(backbone, stage) as watch:
        watch.probe.register_forward_hook(lambda module, inputs, output: sides.append(tuple(output.shape[2:])))
        scans = record_scans(backbone, inputs, backbone.used_stages()[stage_index(backbone, stage)])
    if not -len(scans) <= block < len(scans):
        raise UserValueError(f'block {block}: there are scans 0 to {len(scans) - 1} in this stage')
    scan, (height, width) = scans[block], sides[0]
    row, column = int(place[0] * height), int(place[1] * width)
    length, count = scan.walks.num_tokens, height * width
    maps = np.zeros((scan.walks.num_walks, height, width), np.float32)
    if length in (count, count + 1):
        token, middle = row * width + column, count // 2
        classed = length > count  # the class token stands in the middle
        found = scan.feeds(token + (classed and token >= middle)).float().cpu().numpy()
        maps[:] = (np.delete(found, middle, 1) if classed else found).reshape(maps.shape)
    else:
        side = math.isqrt(length)
        window = row // side * -(-width // side) + column // side
        found = scan.feeds(row % side * side + column % side, window).float().cpu().numpy()
        top, left = row // side * side, column // side * side
        part = maps[:, top : top + side, left : left + side]
        part[:] = found.reshape(-1, side, side)[:, : part.shape[1], : part.shape[2]]
    return ScanMap(maps, scan.titles(), (row, column))
