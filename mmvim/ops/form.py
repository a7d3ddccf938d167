"""How the arguments of a scan go from hand to hand, after :mod:`mmvim.ops.interface` has brought them into one form.

T is S steps or L tokens, as ``u_step`` and ``param_step`` say.
"""

from typing import Any, NamedTuple

from torch import Tensor

from .walks import Walks


class Tensors(NamedTuple):
    """What a scan computes with, all of it differentiable.

    Attributes:
        u: (B, 1|K, T, D); as delta, B, C and z with any strides whose last one is 1.
        delta: (B, 1|K, T, D), or (B, 1|K, T, R) with ``dt_weight``.
        A: (1|K, D, N); as D, delta_bias and dt_weight contiguous and in the dtype of the state.
        B: (B, 1|K, T, N).
        C: (B, 1|K, T, N).
        D: (1|K, D).
        z: (B, L, D).
        delta_bias: (1|K, D).
        dt_weight: (1|K, D, R).
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    dt_weight: Tensor | None


class Form(NamedTuple):
    """The walks but for their table, and the options: in the order of the operators' schemas."""

    kinds: tuple[int, ...]
    height: int
    width: int
    delta_softplus: bool
    u_step: bool
    param_step: bool
    merge: bool
    scale: float

    def walks(self, table: Tensor | None) -> Walks:
        return Walks(self.height, self.width, tuple(self.kinds), table)


def unpack(arguments: tuple) -> tuple[Tensors, Walks, Form, tuple[Any, ...]]:
    """The flat arguments of ``mmvim::scan``: its tensors, walks and form, and what follows these."""
    count, end = len(Tensors._fields), len(Tensors._fields) + 1 + len(Form._fields)
    form = Form(*arguments[count + 1 : end])
    return Tensors(*arguments[:count]), form.walks(arguments[count]), form, arguments[end:]
