"""The operators under ``torch.func`` and in forward mode, where PyTorch does not take them as they are.

``grad``, ``vjp``, ``jacrev`` and ``vmap`` meet a :class:`torch.autograd.Function` around the same operators, so that
the kernels do the work. ``vmap`` merges its axis into the batch; where parameters or their gradients have that axis, as
in an ensemble or for the gradient of each sample, it takes one call for each. ``jvp`` and derivatives of derivatives
(``jacfwd``, ``hessian``) are left to PyTorch itself, which differentiates the formula step by step: right, and slow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserRuntimeError

from .form import Form, Tensors
from .reference import scan_reference
from .walking import unwalked, walked
from .walks import Walks

BATCHED = ('u', 'delta', 'B', 'C', 'z')  # the tensors of a scan that have an axis of the batch


def scan_by_formula(inputs: Tensors, walks: Walks, form: Form, out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """y and the last state of ``mmvim::scan`` in operations that PyTorch can differentiate in every way."""
    dtype = inputs.A.dtype
    y, last_state = scan_reference(
        *(None if x is None else x.to(dtype) for x in inputs[:6]), walks=walks,
        z=None if inputs.z is None else inputs.z.to(dtype), delta_bias=inputs.delta_bias, dt_weight=inputs.dt_weight,
        delta_softplus=form.delta_softplus, u_order='step' if form.u_step else 'token',
        param_order='step' if form.param_step else 'token', merge='sum' if form.merge else 'none', scale=form.scale,
    )  # fmt: skip
    return y.to(out_dtype), last_state


def walk_conv_by_formula(
    x: Tensor, weight: Tensor, bias: Tensor | None, walks: Walks, silu: bool, step: bool
) -> Tensor:
    """``mmvim::walk_conv`` in operations that PyTorch can differentiate in every way."""
    taps = weight.shape[-1]
    padded = F.pad(walked(x.unsqueeze(1), walks, False).to(weight.dtype), (0, 0, taps - 1, 0))
    y = sum(padded[:, :, j : j + walks.num_steps] * weight[:, None, :, j] for j in range(taps))
    y = y if bias is None else y + bias[:, None]
    y = F.silu(y) if silu else y
    return (y if step else unwalked(y, walks)).to(x.dtype)


class _Function(torch.autograd.Function):
    """``apply(op, *args)`` is ``op(*args)``, under transforms too; a subclass says which arguments have a batch."""

    @staticmethod
    def batched(args: Sequence) -> set[int]:
        """Places of the tensors whose first axis is the batch."""
        raise NotImplementedError

    @staticmethod
    def can_merge(args: Sequence) -> bool:
        """Whether the results are what they were when the batch grows."""
        return True

    @staticmethod
    def forward(op: Callable, *args: Any) -> Tensor | tuple[Tensor, ...]:
        return op(*args)

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, op: Callable, *args: Any) -> tuple:
        # A list or tuple among the arguments has a dim for each of its items, none of them a tensor.
        dims = [dim if isinstance(x, Tensor) else None for x, dim in zip(args, in_dims[1:], strict=True)]
        batched = cls.batched(args)
        if all(dim is None or i in batched for i, dim in enumerate(dims)) and cls.can_merge(args):
            merged = [
                _merge(x, dims[i], info.batch_size) if i in batched and isinstance(x, Tensor) else x
                for i, x in enumerate(args)
            ]
            results = cls.apply(op, *merged)
            single = isinstance(results, Tensor)
            # What was not asked for has no elements and no batch.
            size = info.batch_size
            parts = [
                y.unflatten(0, (size, len(y) // size)) if y.dim() > 1 else y.expand(size, *y.shape)
                for y in ((results,) if single else results)
            ]
        else:
            calls = [
                cls.apply(op, *(x if d is None else x.select(d, i) for x, d in zip(args, dims, strict=True)))
                for i in range(info.batch_size)
            ]
            single = isinstance(calls[0], Tensor)
            parts = [torch.stack(ys) for ys in zip(*([y] if single else y for y in calls), strict=True)]
        return (parts[0], 0) if single else (tuple(parts), (0,) * len(parts))


def _merge(x: Tensor, dim: int | None, size: int) -> Tensor:
    """(V, B, ...) from the axis ``dim``, or the same for all of V, to (V * B, ...) with a dense last axis."""
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    x = x.flatten(0, 1)
    return x if x.stride(-1) == 1 else x.contiguous()


class _Once(_Function):
    """A backward pass, of which there is no gradient."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise UserRuntimeError(
            'mmvim scans can be differentiated once only: the gradient of a gradient (create_graph=True) is not '
            'implemented; nested transforms of torch.func (hessian, grad of grad) are'
        )


class _ScanBackward(_Once):
    @staticmethod
    def batched(args: Sequence) -> set[int]:
        """grad, the tensors with a batch, and the states behind the table."""
        return {0, *(1 + i for i, name in enumerate(Tensors._fields) if name in BATCHED), len(Tensors._fields) + 2}

    @staticmethod
    def can_merge(args: Sequence) -> bool:
        """Gradients of parameters are sums over the batch, and wanted for each of V."""
        return not any(want and name not in BATCHED for name, want in zip(Tensors._fields, args[-1], strict=True))


class _Scan(_Function):
    @staticmethod
    def batched(args: Sequence) -> set[int]:
        return {i for i, name in enumerate(Tensors._fields) if name in BATCHED}

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        op, *args = inputs
        count = len(Tensors._fields)
        _, states, last_state = output
        ctx.save_for_backward(*args[: count + 1], states)
        ctx.op, ctx.form = op, args[count + 1 : -2]
        ctx.mark_non_differentiable(states, last_state)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _states: Tensor, _last_state: Tensor) -> tuple:
        count = len(Tensors._fields)
        wanted = [bool(need) for need in ctx.needs_input_grad[1 : count + 1]]
        grads = _ScanBackward.apply(_backward_of(ctx.op), grad, *ctx.saved_tensors, *ctx.form, wanted)
        return None, *_chosen(grads, wanted), *[None] * (len(ctx.needs_input_grad) - 1 - count)


class _WalkConvBackward(_Once):
    @staticmethod
    def batched(args: Sequence) -> set[int]:
        return {0, 1}  # grad, x

    @staticmethod
    def can_merge(args: Sequence) -> bool:
        return not any(args[-1][1:])


class _WalkConv(_Function):
    @staticmethod
    def batched(args: Sequence) -> set[int]:
        return {0}

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        op, *args = inputs
        ctx.save_for_backward(*args[:4])  # x, weight, bias, table
        ctx.op, ctx.flags = op, args[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        wanted = [bool(need) for need in ctx.needs_input_grad[1:4]]
        grads = _WalkConvBackward.apply(_backward_of(ctx.op), grad, *ctx.saved_tensors, *ctx.flags, wanted)
        return None, *_chosen(grads, wanted), *[None] * (len(ctx.needs_input_grad) - 4)


def _backward_of(op: Callable) -> Callable:
    name, twin, _ = op.__name__.partition('_torch')
    return getattr(torch.ops.mmvim, f'{name}_backward{twin}')


def _chosen(grads: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [grad if want else None for grad, want in zip(grads, wanted, strict=True)]


def scan(op: Callable, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``mmvim::scan`` or its twin, under transforms. The states are kept, as a gradient may be asked for outside."""
    return _Scan.apply(op, *args[:-1], True)


def walk_conv(op: Callable, *args: Any) -> Tensor:
    """``mmvim::walk_conv`` or its twin, under transforms."""
    return _WalkConv.apply(op, *args)
