"""The operators as PyTorch sees them: schema, shapes, gradients, FLOPs and a PyTorch implementation.

``mmvim::scan`` and ``mmvim::walk_conv`` are what models call. The compiled extensions register further implementations
of these two and of their backwards for the CPU and CUDA keys, nothing else: ``torch.compile``, ``torch.export``, FLOP
counters and autograd meet the same operators with and without them. ``mmvim::scan_torch`` and
``mmvim::walk_conv_torch`` are twins that no extension touches: ``backend='torch'``.

The tensors' shapes are those of :class:`mmvim.ops.form.Tensors`, and::

    y (B, L, D) or (B, K, L, D)   last_state (B, K, D, N)
    states (B, K, (S - 1) // 32, N, D), the state in front of steps 32, 64, ...; empty unless ``save``
    x (B, L, D)   weight (K, D, W)   bias (K, D)   ->   (B, K, L|S, D)

The ``output_mask`` of a backward says which gradients are wanted, all by default; the others have no elements.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mmvim.errors import UserRuntimeError

from . import chunked, conv, tables
from .form import Form, Tensors, unpack
from .walking import num_stored_states, state_dtype
from .walks import Walks

_SCAN = (
    'Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, '
    'Tensor? dt_weight, Tensor? table, '
)
_CONV = 'Tensor x, Tensor weight, Tensor? bias, Tensor? table, '
_WALKS = 'int[] kinds, SymInt height, SymInt width, '
_FLAGS = 'bool delta_softplus, bool u_step, bool param_step, bool merge, float scale'
SCHEMAS = {
    'scan': f'({_SCAN}{_WALKS}{_FLAGS}, ScalarType out_dtype, bool save) -> (Tensor, Tensor, Tensor)',
    'scan_backward': f'(Tensor grad, {_SCAN}Tensor states, {_WALKS}{_FLAGS}, bool[9]? output_mask=None) -> '
    '(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    'walk_conv': f'({_CONV}{_WALKS}bool silu, bool step) -> Tensor',
    'walk_conv_backward': f'(Tensor grad, {_CONV}{_WALKS}bool silu, bool step, bool[3]? output_mask=None) -> '
    '(Tensor, Tensor, Tensor)',
}
ALL = (True,) * len(Tensors._fields)  # gradients of a scan


def _checked(walks: Walks) -> Walks:
    """Callers of the operators themselves have not been through :mod:`mmvim.ops.interface`."""
    walks.check()
    tables.check(walks)
    return walks


def _scan(*arguments):
    inputs, walks, form, (out_dtype, save) = unpack(arguments)
    _checked(walks)
    return chunked.scan_forward(inputs, walks, form, out_dtype, save)


def _unpack_backward(grad, *arguments):
    # As those of `scan`, but the states follow the table, and the mask, if any, the form.
    at = len(Tensors._fields) + 1
    inputs, walks, form, mask = unpack(arguments[:at] + arguments[at + 1 :])
    return grad, inputs, arguments[at], walks, form, (mask and mask[0]) or ALL


def _scan_backward(*arguments):
    grad, inputs, states, walks, form, wanted = _unpack_backward(*arguments)
    return chunked.scan_backward(grad, inputs, states, _checked(walks), form, wanted)


def _walk_conv(x, weight, bias, table, kinds, height, width, silu, step):
    return conv.conv_forward(x, weight, bias, _checked(Walks(height, width, tuple(kinds), table)), silu, step)


def _walk_conv_backward(grad, x, weight, bias, table, kinds, height, width, silu, step, output_mask=None):
    walks = _checked(Walks(height, width, tuple(kinds), table))
    return conv.conv_backward(grad, x, weight, bias, walks, silu, step, output_mask or ALL[:3])


def _scan_fake(*arguments):
    inputs, walks, form, (out_dtype, save) = unpack(arguments)
    u, dtype = inputs.u, state_dtype(inputs.u.dtype)
    batch, channels, d_state = u.shape[0], u.shape[-1], inputs.A.shape[-1]
    outer = (batch,) if form.merge else (batch, walks.num_walks)
    stored = (batch, walks.num_walks, num_stored_states(walks.num_steps), d_state, channels) if save else (0,)
    return (
        u.new_empty((*outer, walks.num_tokens, channels), dtype=out_dtype),
        u.new_empty(stored, dtype=dtype),
        u.new_empty((batch, walks.num_walks, channels, d_state), dtype=dtype),
    )


def _empty_gradients(like: Tensor, inputs: tuple[Tensor | None, ...], wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    return tuple(
        x.new_empty(x.shape) if want and x is not None else like.new_empty(0, dtype=None if x is None else x.dtype)
        for x, want in zip(inputs, wanted, strict=True)
    )


def _scan_backward_fake(*arguments):
    _, inputs, _, _, _, wanted = _unpack_backward(*arguments)
    return _empty_gradients(inputs.u, inputs, wanted)


def _walk_conv_fake(x, weight, bias, table, kinds, height, width, silu, step):
    walks = Walks(height, width, tuple(kinds), table)
    return x.new_empty((x.shape[0], walks.num_walks, walks.num_steps if step else walks.num_tokens, x.shape[-1]))


def _walk_conv_backward_fake(grad, x, weight, bias, table, kinds, height, width, silu, step, output_mask=None):
    return _empty_gradients(x, (x, weight, bias), output_mask or ALL[:3])


def _scan_operations(steps: int, d_state: int, skip: bool, rank: int) -> int:
    """As VMamba's authors count: 9 per state, 1 for the skip and R for a projection.

    Args:
        steps: Batch x walks x steps x channels.
        d_state: N.
        skip: Whether there is a ``D``.
        rank: R, 0 without ``dt_weight``.
    """
    return steps * (9 * d_state + skip + rank)


# Sizes stand in place of tensors in what follows. As in torch.utils.flop_counter, a multiply-add counts twice.


def _scan_flops(*arguments, **_):
    count = len(Tensors._fields)
    inputs, table, form = Tensors(*arguments[:count]), arguments[count], Form(*arguments[count + 1 : count + 9])
    num_walks, num_steps = (len(form.kinds), form.height * form.width) if table is None else table
    rank = 0 if inputs.dt_weight is None else inputs.dt_weight[-1]
    steps = inputs.u[0] * num_walks * num_steps * inputs.u[-1]
    return 2 * _scan_operations(steps, inputs.A[-1], inputs.D is not None, rank)


def _scan_backward_flops(grad, *arguments, **kwargs):
    """Twice the forward, by the convention of torch.utils.flop_counter for matrix products."""
    at = len(Tensors._fields) + 1
    return 2 * _scan_flops(*arguments[:at], *arguments[at + 1 :], **kwargs)


def _walk_conv_flops(x, weight, bias, table, kinds, height, width, *rest, **_):
    """Two per tap; an activation counts nothing, as everywhere in torch.utils.flop_counter."""
    num_walks, num_steps = (len(kinds), height * width) if table is None else table
    return 2 * x[0] * num_walks * num_steps * x[-1] * weight[-1]


def _walk_conv_backward_flops(grad, *args, **kwargs):
    return 2 * _walk_conv_flops(*args, **kwargs)


# Counters on the graph of torch.jit.trace (mmengine's, fvcore's) give its values, and count a multiply-add once.


def _sizes(value: torch._C.Value) -> list[int] | None:
    """Shape of a tensor in a traced graph; ``None`` for none."""
    return value.type().sizes() if value.isCompleteTensor() else None


def _scan_traced(inputs: list[torch._C.Value], outputs: list[torch._C.Value]) -> int:
    given = Tensors(*map(_sizes, inputs[: len(Tensors._fields)]))
    table, y, last_state = _sizes(inputs[len(given)]), _sizes(outputs[0]), _sizes(outputs[2])
    batch, num_walks, channels, d_state = last_state
    num_steps = y[-2] if table is None else table[1]
    rank = 0 if given.dt_weight is None else given.dt_weight[-1]
    return _scan_operations(batch * num_walks * num_steps * channels, d_state, given.D is not None, rank)


def _walk_conv_traced(inputs: list[torch._C.Value], outputs: list[torch._C.Value]) -> int:
    weight, table, (batch, num_walks, length, channels) = _sizes(inputs[1]), _sizes(inputs[3]), _sizes(outputs[0])
    return batch * num_walks * (length if table is None else table[1]) * channels * weight[-1]


TRACED_FLOPS = {
    f'mmvim::{name}{suffix}': count
    for name, count in (('scan', _scan_traced), ('walk_conv', _walk_conv_traced))
    for suffix in ('', '_torch')
}


def _no_double_backward(ctx, *grads):
    raise UserRuntimeError(
        'mmvim scans can be differentiated once only: the gradient of a gradient (create_graph=True) is not implemented'
    )


def _add_scan(suffix: str) -> None:
    count = len(Tensors._fields)

    def setup_context(ctx, inputs, output):
        _, states, last_state = output
        ctx.save_for_backward(*inputs[: count + 1], states)  # the table is behind the tensors
        ctx.form = inputs[count + 1 : -2]
        ctx.saved = inputs[-1]
        ctx.mark_non_differentiable(states, last_state)
        ctx.set_materialize_grads(False)

    def backward(ctx, grad, _states, _last_state):
        nothing = [None] * len(ctx.needs_input_grad)
        if grad is None:
            return tuple(nothing)
        if not ctx.saved:
            raise UserRuntimeError(
                f'mmvim::scan{suffix} was called with save=False, as torch.export does: no states for a gradient'
            )
        op = getattr(torch.ops.mmvim, f'scan_backward{suffix}')
        wanted = ctx.needs_input_grad[:count]
        grads = op(grad, *ctx.saved_tensors, *ctx.form, wanted)
        return (*_chosen(grads, wanted), *nothing[count:])

    torch.library.register_autograd(f'mmvim::scan{suffix}', backward, setup_context=setup_context)


def _chosen(grads: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [grad if want else None for grad, want in zip(grads, wanted, strict=True)]


def _add_walk_conv(suffix: str) -> None:
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:4])  # x, weight, bias, table
        ctx.flags = inputs[4:]

    def backward(ctx, grad):
        op = getattr(torch.ops.mmvim, f'walk_conv_backward{suffix}')
        wanted = ctx.needs_input_grad[:3]
        grads = op(grad, *ctx.saved_tensors, *ctx.flags, wanted)
        return (*_chosen(grads, wanted), *[None] * (len(ctx.needs_input_grad) - 3))

    torch.library.register_autograd(f'mmvim::walk_conv{suffix}', backward, setup_context=setup_context)


_IMPLEMENTATIONS = {
    'scan': (_scan, _scan_fake, _scan_flops),
    'scan_backward': (_scan_backward, _scan_backward_fake, _scan_backward_flops),
    'walk_conv': (_walk_conv, _walk_conv_fake, _walk_conv_flops),
    'walk_conv_backward': (_walk_conv_backward, _walk_conv_backward_fake, _walk_conv_backward_flops),
}


def _without_autocast(implementation: Callable) -> Callable:
    """Inside an operator dtypes are what they are: autocast would compute products of states in half precision."""

    @wraps(implementation)
    def wrapped(first: Tensor, *args):
        with torch.autocast(first.device.type, enabled=False):
            return implementation(first, *args)

    return wrapped


for _suffix in ('', '_torch'):
    for _name, _schema in SCHEMAS.items():
        _qualified = f'mmvim::{_name}{_suffix}'
        _implementation, _fake, _flops = _IMPLEMENTATIONS[_name]
        torch.library.define(_qualified, _schema)
        torch.library.impl(_qualified, 'CompositeExplicitAutograd')(_without_autocast(_implementation))
        torch.library.register_fake(_qualified)(_fake)
        register_flop_formula(getattr(torch.ops.mmvim, _name + _suffix))(_flops)
        if _name.endswith('_backward'):
            torch.library.register_autograd(_qualified, _no_double_backward)
    _add_scan(_suffix)
    _add_walk_conv(_suffix)
