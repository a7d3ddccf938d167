"""The operators as PyTorch sees them: schema, shapes, gradients, FLOPs and a PyTorch implementation.

``mmvim::scan`` and ``mmvim::walk_conv`` are what models call. The compiled extensions register further implementations
of these two and of their backwards for the CPU and CUDA keys, nothing else: ``torch.compile``, ``torch.export``, FLOP
counters and autograd meet the same operators with and without them. ``mmvim::scan_torch`` and
``mmvim::walk_conv_torch`` are twins that no extension touches: ``backend='torch'``.

Shapes, after :mod:`mmvim.ops.interface` has brought its arguments into one form (T = S steps, or L tokens)::

    u (B, 1|K, T, D)   delta (B, 1|K, T, D|R)   B, C (B, 1|K, T, N)   z (B, L, D)          any strides, last one 1
    A (1|K, D, N)   D, delta_bias (1|K, D)   dt_weight (1|K, D, R)                         state dtype, contiguous
    y (B, L, D) or (B, K, L, D)   last_state (B, K, D, N)
    states (B, K, (S - 1) // 32, N, D), the state in front of steps 32, 64, ...; empty unless ``save``
    x (B, L, D)   weight (K, D, W)   bias (K, D)   ->   (B, K, L|S, D)
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import chunked, conv
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
    'scan_backward': f'(Tensor grad, {_SCAN}Tensor states, {_WALKS}{_FLAGS}) -> '
    '(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    'walk_conv': f'({_CONV}{_WALKS}bool silu, bool step) -> Tensor',
    'walk_conv_backward': f'(Tensor grad, {_CONV}{_WALKS}bool silu, bool step) -> (Tensor, Tensor, Tensor)',
}


def _scan(u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, *flags):
    walks = Walks(height, width, tuple(kinds), table)
    return chunked.scan_forward(u, delta, A, B, C, D, z, delta_bias, dt_weight, walks, *flags)


def _scan_backward(grad, u, delta, A, B, C, D, z, delta_bias, dt_weight, table, states, kinds, height, width, *flags):
    walks = Walks(height, width, tuple(kinds), table)
    return chunked.scan_backward(grad, u, delta, A, B, C, D, z, delta_bias, dt_weight, states, walks, *flags)


def _walk_conv(x, weight, bias, table, kinds, height, width, silu, step):
    return conv.conv_forward(x, weight, bias, Walks(height, width, tuple(kinds), table), silu, step)


def _walk_conv_backward(grad, x, weight, bias, table, kinds, height, width, silu, step):
    return conv.conv_backward(grad, x, weight, bias, Walks(height, width, tuple(kinds), table), silu, step)


def _scan_fake(u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, *flags):
    delta_softplus, u_step, param_step, merge, scale, out_dtype, save = flags
    walks = Walks(height, width, tuple(kinds), table)
    batch, channels, d_state = u.shape[0], u.shape[-1], A.shape[-1]
    dtype = chunked.state_dtype(u.dtype)
    y_shape = (batch, walks.num_tokens, channels) if merge else (batch, walks.num_walks, walks.num_tokens, channels)
    stored = (batch, walks.num_walks, chunked.num_stored_states(walks.num_steps), d_state, channels) if save else (0,)
    return (
        u.new_empty(y_shape, dtype=out_dtype),
        u.new_empty(stored, dtype=dtype),
        u.new_empty((batch, walks.num_walks, channels, d_state), dtype=dtype),
    )


def _empty_gradient(x: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if x is None else x.new_empty(x.shape)


def _scan_backward_fake(grad, u, delta, A, B, C, D, z, delta_bias, dt_weight, *rest):
    return tuple(_empty_gradient(x, u) for x in (u, delta, A, B, C, D, z, delta_bias, dt_weight))


def _walk_conv_fake(x, weight, bias, table, kinds, height, width, silu, step):
    walks = Walks(height, width, tuple(kinds), table)
    return x.new_empty((x.shape[0], walks.num_walks, walks.num_steps if step else walks.num_tokens, x.shape[-1]))


def _walk_conv_backward_fake(grad, x, weight, bias, *rest):
    return tuple(_empty_gradient(t, x) for t in (x, weight, bias))


def _scan_flops(u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, *rest, **_):
    """9 per (token, channel, state, walk) as VMamba's authors count, 1 for the skip, 2 per multiply of dt_weight."""
    num_walks, num_steps = (len(kinds), height * width) if table is None else table
    per_channel = 9 * A[-1] + (D is not None) + (2 * dt_weight[-1] if dt_weight is not None else 0)
    return u[0] * num_walks * num_steps * u[-1] * per_channel


def _scan_backward_flops(grad, *args, **kwargs):
    """Twice the forward, by the convention of torch.utils.flop_counter for matrix products."""
    *inputs, table, _states = args[:11]
    return 2 * _scan_flops(*inputs, table, *args[11:], **kwargs)


def _walk_conv_flops(x, weight, bias, table, kinds, height, width, *rest, **_):
    """Two per tap; an activation counts nothing, as everywhere in torch.utils.flop_counter."""
    num_walks, num_steps = (len(kinds), height * width) if table is None else table
    return 2 * x[0] * num_walks * num_steps * x[-1] * weight[-1]


def _walk_conv_backward_flops(grad, *args, **kwargs):
    return 2 * _walk_conv_flops(*args, **kwargs)


def _no_double_backward(ctx, *grads):
    raise RuntimeError(
        'mmvim scans can be differentiated once only: the gradient of a gradient (create_graph=True) is not implemented'
    )


def _add_scan(suffix: str) -> None:
    def setup_context(ctx, inputs, output):
        *tensors, kinds, height, width, softplus, u_step, param_step, merge, scale, _, save = inputs
        _, states, last_state = output
        ctx.save_for_backward(*tensors, states)
        ctx.flags = kinds, height, width, softplus, u_step, param_step, merge, scale
        ctx.saved = save
        ctx.mark_non_differentiable(states, last_state)
        ctx.set_materialize_grads(False)

    def backward(ctx, grad, _states, _last_state):
        if grad is None:
            return (None,) * 20
        if not ctx.saved:
            raise RuntimeError(
                f'mmvim::scan{suffix} was called with save=False, as torch.export does: no states for a gradient'
            )
        op = getattr(torch.ops.mmvim, f'scan_backward{suffix}')
        saved = ctx.saved_tensors  # unpacked once only, as checkpointing demands
        grads = op(grad, *saved, *ctx.flags)
        # In the order of the arguments: the nine differentiable tensors, then table, walks and flags.
        present = [None if x is None else g for x, g in zip(saved, grads, strict=False)]
        return (*present, *(None,) * 11)

    torch.library.register_autograd(f'mmvim::scan{suffix}', backward, setup_context=setup_context)


def _add_walk_conv(suffix: str) -> None:
    def setup_context(ctx, inputs, output):
        x, weight, bias, table, *flags = inputs
        ctx.save_for_backward(x, weight, bias, table)
        ctx.flags = flags

    def backward(ctx, grad):
        op = getattr(torch.ops.mmvim, f'walk_conv_backward{suffix}')
        x, weight, bias, table = ctx.saved_tensors
        dx, dweight, dbias = op(grad, x, weight, bias, table, *ctx.flags)
        return (dx, dweight, None if bias is None else dbias, *(None,) * 6)

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
