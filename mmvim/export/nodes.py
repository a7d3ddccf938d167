"""mmvim's operators as nodes, for OpenVINO with the extension that ``kernels/build_openvino.py`` builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmvim.ops.form import Tensors, unpack
from mmvim.ops.walks import Walks


def scan(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``mmvim::scan`` as one node, in fp32; models for export ask neither for stored states nor for the last one."""
    inputs, walks, form, _ = unpack(arguments)
    batch, channels = inputs.u.shape[0], inputs.u.shape[-1]
    outer = (batch,) if form.merge else (batch, walks.num_walks)
    attributes = {name: int(getattr(form, name)) for name in ('delta_softplus', 'u_step', 'param_step', 'merge')}
    attributes['scale'] = float(form.scale)
    y = _node('Scan', inputs, walks, attributes, (*outer, walks.num_tokens, channels))
    return y, y.new_zeros(0), y.new_zeros(batch, walks.num_walks, channels, inputs.A.shape[-1])


def walk_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor | None, kinds: list[int], height: int, width: int,
    silu: bool, step: bool,
) -> Tensor:  # fmt: skip
    """``mmvim::walk_conv`` as one node."""
    walks = Walks(height, width, tuple(kinds), table)
    shape = (x.shape[0], walks.num_walks, walks.num_steps if step else walks.num_tokens, x.shape[-1])
    return _node('WalkConv', (x, weight, bias), walks, {'silu': int(silu), 'step': int(step)}, shape)


def _node(
    name: str, inputs: Tensors | Sequence[Tensor | None], walks: Walks, attributes: dict, shape: tuple[int, ...]
) -> Tensor:
    """A node with the inputs that are there; ``given`` has a bit for each of these."""
    inputs = (*inputs, walks.table)
    attributes |= {
        'given': sum(1 << index for index, tensor in enumerate(inputs) if tensor is not None),
        'kinds': walks.kinds or (0,) * walks.num_walks,  # ONNX has no empty lists; the table is what counts
        'height': walks.height,
        'width': walks.width,
    }
    present = [tensor.contiguous() for tensor in inputs if tensor is not None]
    return torch.onnx.ops.symbolic(f'mmvim::{name}', present, attributes, dtype=torch.float32, shape=shape, version=1)
