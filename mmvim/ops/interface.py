"""What models call: :func:`scan` and :func:`walk_conv`. Checks, one form for arguments, the choice of backend."""

from collections.abc import Callable
from functools import partial
from numbers import Real

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mmvim.errors import UserRuntimeError, UserTypeError, UserValueError

from . import (
    library,  # noqa: F401  defines torch.ops.mmvim
    mamba_backend,
    tables,
)
from .backends import Implementation, has_kernels, resolve
from .form import Form, Tensors
from .walking import state_dtype
from .walks import Walks

MOST_TAPS = 32  # of the compiled convolutions
_NUMBERS = (float, int, torch.SymFloat, torch.SymInt)
_IO_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    walks: Walks,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    dt_weight: Tensor | None = None,
    u_order: str = 'token',
    param_order: str = 'token',
    merge: str = 'sum',
    scale: float = 1.0,
    out_dtype: torch.dtype | None = None,
    return_last_state: bool = False,
    backend: str = 'auto',
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan (S6, https://arxiv.org/abs/2312.00752) of tokens along K walks.

    Step s of walk k stands at token ``t = walks[k, s]`` and computes, for each channel with its N states::

        d = softplus(dt_weight @ delta[t] + delta_bias)      h = exp(d * A) * h + d * u[t] * B[t]
        y_k[t] = C[t] . h + D * u[t]

    A step without a token writes nothing. Token-ordered inputs count there as u = B = C = 0 and delta = 0 before bias
    and softplus, so that the state decays; step-ordered inputs are used as they are.

    Infinity and NaN travel as IEEE 754 says for this formula in this order, and touch no other value; docs/kernels.md
    has the exceptions of CUDA. A = -inf forgets the state at once where d > 0, and gives NaN where d = 0, as 0 * inf
    does; an infinite C makes y infinite, or NaN where the state is 0. Without ``D``, ``z`` or ``delta_bias`` their
    terms are not there.

    The state, delta and all sums are fp32 (fp64 for fp64 inputs). For a backward pass the states in front of every 32nd
    step are kept: at most N / 8 bytes per (token, channel, walk) in fp32, besides the arguments themselves. The
    backward pass is deterministic. There is no second derivative, and none through the last state, except under
    torch.func and in forward mode, where the formula is differentiated step by step (:mod:`mmvim.ops.transforms`).

    Args:
        u: Input, (B, L, D) shared by all walks, or (B, K, L, D); with ``u_order='step'`` (B, K, S, D).
        delta: Step size before bias and softplus, (B[, K], T, D), or low rank (B[, K], T, R) with ``dt_weight``; T = L
            tokens, or S steps with ``param_order='step'``.
        A: (1|K, D, N), negative for a state that decays.
        B: (B[, K], T, N).
        C: (B[, K], T, N).
        D: Skip connection, (1|K, D).
        walks: Orders over L tokens, see :mod:`mmvim.ops.walks`.
        z: Gate (B, L, D): the result is multiplied with silu(z).
        delta_bias: (1|K, D), added before softplus.
        delta_softplus: Whether delta goes through softplus.
        dt_weight: (1|K, D, R), projects a low-rank delta.
        u_order: ``'token'``, or ``'step'`` where u is already in walking order.
        param_order: The same for delta, B and C.
        merge: ``'sum'`` adds the walks up, ``'none'`` keeps them apart.
        scale: Factor of the result.
        out_dtype: Dtype of the result, that of u by default.
        return_last_state: Whether to return the state behind the last step as well.
        backend: ``'auto'``; or ``'cpu'`` or ``'cuda'``, the compiled kernels; ``'mamba_ssm'``, the kernels of that
            package for CUDA tensors (:mod:`mmvim.ops.mamba_backend`); ``'torch'``, plain PyTorch. See
            :mod:`mmvim.ops.backends` for what there is.

    Returns:
        y, (B, L, D) for ``merge='sum'`` or (B, K, L, D), 0 where a walk does not visit; with ``return_last_state`` also
        the state (B, K, D, N).

    Raises:
        TypeError: If an argument is no tensor, dtypes differ outside autocast, or are not floating point numbers of a
            supported kind.
        ValueError: If shapes or devices do not fit, or walks leave the grid.
        RuntimeError: If ``backend`` is not available.
    """
    expect_tensors(u=u, delta=delta, A=A, B=B, C=C)
    expect_optional_tensors(D=D, z=z, delta_bias=delta_bias, dt_weight=dt_weight)
    _expect_walks(walks)
    u_step = _is_step('u_order', u_order)
    param_step = _is_step('param_order', param_order)
    if merge not in ('sum', 'none'):
        raise UserValueError(f"merge={merge!r}: expected 'sum' or 'none'")
    if A.is_complex():
        raise UserTypeError('A is complex: complex states are not supported, A must be real')
    if not isinstance(scale, _NUMBERS) and not isinstance(scale, Real):
        raise UserTypeError(f'scale: expected a number, got {scale!r}')
    if out_dtype is not None and out_dtype not in _IO_DTYPES:
        raise UserTypeError(f'out_dtype: expected None or one of {_names(_IO_DTYPES)}, got {out_dtype!r}')
    if u.dim() == 0:
        raise UserValueError('u: expected 3 or 4 axes, got a scalar')
    _expect_axes(A=A, dt_weight=dt_weight)
    num_walks, num_tokens, num_steps = walks.num_walks, walks.num_tokens, walks.num_steps
    batch, channels = u.shape[0], u.shape[-1]
    d_state = A.shape[-1]
    length = num_steps if param_step else num_tokens
    u = _per_walk('u', u, batch, num_walks, num_steps if u_step else num_tokens, channels)
    rank = channels if dt_weight is None else dt_weight.shape[-1]
    delta = _per_walk('delta', delta, batch, num_walks, length, rank)
    B = _per_walk('B', B, batch, num_walks, length, d_state)
    C = _per_walk('C', C, batch, num_walks, length, d_state)
    _expect('A', A, (num_walks, channels, d_state))
    _expect('D', D, (num_walks, channels))
    _expect('delta_bias', delta_bias, (num_walks, channels))
    _expect('dt_weight', dt_weight, (num_walks, channels, rank))
    if z is not None and z.shape != (batch, num_tokens, channels):
        raise UserValueError(f'z: expected (B, L, D) = {(batch, num_tokens, channels)}, got {tuple(z.shape)}')
    u, delta, B, C, z = _common_dtype({'u': u, 'delta': delta, 'B': B, 'C': C, 'z': z})
    dtype = state_dtype(u.dtype)
    A, D, delta_bias, dt_weight = (
        None if x is None else x.to(dtype).contiguous() for x in (A, D, delta_bias, dt_weight)
    )
    tensors = Tensors(u, delta, A, B, C, D, z, delta_bias, dt_weight)
    _same_device(u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias, dt_weight=dt_weight)
    form = Form(walks.kinds, walks.height, walks.width, delta_softplus, u_step, param_step, merge == 'sum', scale)
    out_dtype = out_dtype or u.dtype
    taken = resolve(backend, u.device, 'scan', torch.float64 in (u.dtype, out_dtype))
    if _by_formula():
        from . import transforms

        y, last_state = transforms.scan_by_formula(tensors, walks, form, out_dtype)
    elif taken is Implementation.MAMBA_SSM:
        y, last_state = mamba_backend.scan(tensors, walks, form, out_dtype)
    else:
        # Kernels are not for an empty batch.
        op = torch.ops.mmvim.scan_torch if taken is Implementation.TORCH or batch == 0 else torch.ops.mmvim.scan
        call = _under_transforms('scan', op) if _transformed() else op
        y, _, last_state = call(*tensors, tables.on_device(walks, u), *form, out_dtype, _saves(tensors))
    return (y, last_state) if return_last_state else y


def walk_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    walks: Walks,
    activation: str | None = 'silu',
    order: str = 'token',
    backend: str = 'auto',
) -> Tensor:
    """Depthwise causal convolution along each of K walks: the step sees itself and the W - 1 steps before it.

    Args:
        x: (B, L, D); zero in front of the first step and at steps without a token.
        weight: (K, D, W), tap W - 1 multiplies the current step.
        bias: (K, D).
        walks: Orders over L tokens, see :mod:`mmvim.ops.walks`.
        activation: ``'silu'`` or ``None``.
        order: ``'token'`` puts results back to their tokens, ``'step'`` leaves them in walking order.
        backend: As in :func:`scan`.

    Returns:
        (B, K, L, D), 0 where a walk does not visit; with ``order='step'`` (B, K, S, D), a value for every step.

    Raises:
        TypeError: If an argument is no tensor or a dtype is not supported.
        ValueError: If shapes or devices do not fit, or walks leave the grid.
        RuntimeError: If ``backend`` is not available, or its kernels do not take so many taps.
    """
    expect_tensors(x=x, weight=weight)
    expect_optional_tensors(bias=bias)
    _expect_walks(walks)
    if activation not in ('silu', None):
        raise UserValueError(f"activation={activation!r}: expected 'silu' or None")
    step = _is_step('order', order)
    if x.dim() != 3 or x.shape[1] != walks.num_tokens or 0 in x.shape[1:]:
        raise UserValueError(
            f'x: expected (B, L, D) with L = {walks.num_tokens} and neither L nor D empty, got {tuple(x.shape)}'
        )
    if weight.dim() != 3 or weight.shape[:2] != (walks.num_walks, x.shape[-1]) or weight.shape[-1] == 0:
        raise UserValueError(
            f'weight: expected (K, D, W) = {(walks.num_walks, x.shape[-1])} + W, got {tuple(weight.shape)}'
        )
    if bias is not None and bias.shape != weight.shape[:2]:
        raise UserValueError(f'bias: expected (K, D) = {tuple(weight.shape[:2])}, got {tuple(bias.shape)}')
    if x.dtype not in _IO_DTYPES:
        raise UserTypeError(f'x: expected one of {_names(_IO_DTYPES)}, got {x.dtype}')
    _same_device(x, weight=weight, bias=bias)
    dtype = state_dtype(x.dtype)
    weight, bias = (None if t is None else t.to(dtype).contiguous() for t in (weight, bias))
    x = x if x.stride(-1) == 1 else x.contiguous()
    taken = resolve(backend, x.device, 'walk_conv', x.dtype == torch.float64)
    if _by_formula():
        from . import transforms

        return transforms.walk_conv_by_formula(x, weight, bias, walks, activation == 'silu', step)
    if taken is Implementation.MAMBA_SSM:
        return mamba_backend.walk_conv(x, weight, bias, walks, activation == 'silu', step)
    if weight.shape[-1] > MOST_TAPS and taken is Implementation.DISPATCHED and has_kernels(x.device.type):
        taps = weight.shape[-1]
        raise UserRuntimeError(
            f"weight: the compiled kernels take 1 to {MOST_TAPS} taps, got {taps}; use backend='torch'"
        )
    slow = taken is Implementation.TORCH or x.shape[0] == 0
    op = torch.ops.mmvim.walk_conv_torch if slow else torch.ops.mmvim.walk_conv
    call = _under_transforms('walk_conv', op) if _transformed() else op
    return call(
        x, weight, bias, tables.on_device(walks, x), walks.kinds, walks.height, walks.width, activation == 'silu', step
    )


def expect_tensors(**arguments: Tensor | None) -> None:
    """Raise TypeError for what is not a tensor, by its name."""
    for name, x in arguments.items():
        if not isinstance(x, Tensor):
            raise UserTypeError(f'{name}: expected a tensor, got {type(x).__name__}')


def expect_optional_tensors(**arguments: Tensor | None) -> None:
    """Raise TypeError for what is neither a tensor nor None, by its name."""
    for name, x in arguments.items():
        if x is not None and not isinstance(x, Tensor):
            raise UserTypeError(f'{name}: expected a tensor or None, got {type(x).__name__}')


def _expect_axes(**parameters: Tensor | None) -> None:
    for name, x in parameters.items():
        if x is not None and x.dim() != 3:
            raise UserValueError(f'{name}: expected 3 axes, the first of 1 or K, got {tuple(x.shape)}')


def _expect_walks(walks: Walks) -> None:
    if not isinstance(walks, Walks):
        raise UserTypeError(
            f'walks: expected walks of mmvim.ops.walks, such as walks.cross(14, 14), got {type(walks).__name__}'
        )
    walks.check()
    tables.check(walks)


def _is_step(name: str, order: str) -> bool:
    if order not in ('token', 'step'):
        raise UserValueError(f"{name}={order!r}: expected 'token' or 'step'")
    return order == 'step'


def _per_walk(name: str, x: Tensor, batch: int, num_walks: int, length: int, channels: int) -> Tensor:
    """(B, 1|K, length, channels) whose last axis is dense, from the same with or without the axis of walks."""
    wide = x.unsqueeze(1) if x.dim() == 3 else x
    if wide.dim() != 4 or wide.shape[1] not in (1, num_walks):
        raise UserValueError(f'{name}: expected 3 axes, or 4 with K = {num_walks} walks second, got {tuple(x.shape)}')
    if (wide.shape[0], *wide.shape[2:]) != (batch, length, channels):
        expected = f'({batch}[, {num_walks}], {length}, {channels})'
        raise UserValueError(f'{name}: expected {expected}, got {tuple(x.shape)}')
    if 0 in wide.shape[1:]:
        raise UserValueError(f'{name}: an empty sequence or channel axis cannot be scanned, got {tuple(x.shape)}')
    return wide if wide.stride(-1) == 1 else wide.contiguous()


def _expect(name: str, x: Tensor | None, shape: tuple[int, ...]) -> None:
    if x is not None and (x.shape[1:] != shape[1:] or x.shape[0] not in (1, shape[0])):
        raise UserValueError(f'{name}: expected {(f"1 or {shape[0]}", *shape[1:])}, got {tuple(x.shape)}')


def _common_dtype(tensors: dict[str, Tensor | None]) -> tuple[Tensor | None, ...]:
    """The tensors in one dtype. Under autocast the widest one wins, otherwise they must agree."""
    present = {name: x for name, x in tensors.items() if x is not None}
    dtypes = {x.dtype for x in present.values()}
    if len(dtypes) > 1:
        if not torch.is_autocast_enabled(present['u'].device.type):
            listed = ', '.join(f'{name} {x.dtype}' for name, x in present.items())
            raise UserTypeError(f'{", ".join(present)} must have one dtype, got {listed}')
        widest = present['u'].dtype
        for x in present.values():
            widest = torch.promote_types(widest, x.dtype)
        tensors = {name: None if x is None else x.to(widest) for name, x in tensors.items()}
    if tensors['u'].dtype not in _IO_DTYPES:
        raise UserTypeError(f'u: expected one of {_names(_IO_DTYPES)}, got {tensors["u"].dtype}')
    return tuple(tensors.values())


def _same_device(first: Tensor, **others: Tensor | None) -> None:
    for name, x in others.items():
        if x is not None and x.device != first.device:
            raise UserValueError(f'{name} is on {x.device}, the input on {first.device}: move all to one device')


def _transformed() -> bool:
    """Whether a transform of torch.func is around this call."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _by_formula() -> bool:
    """Whether PyTorch has to differentiate the formula: in forward mode, and for a gradient inside of a gradient."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0:
        return True
    levels = torch._C._functorch.get_interpreter_stack() if _transformed() else []
    return [level.key() for level in levels].count(torch._C._functorch.TransformType.Grad) > 1


def _under_transforms(name: str, op: Callable) -> Callable:
    from . import transforms  # needed by few

    return partial(getattr(transforms, name), op)


def _saves(tensors: Tensors) -> bool:
    """Whether states are kept for a backward pass."""
    if torch.jit.is_tracing():
        return True  # the graph is for either mode, and checked against one that is traced in the other
    return torch.is_grad_enabled() and not _exporting() and any(x is not None and x.requires_grad for x in tensors)


def _exporting() -> bool:
    """Whether torch.export traces: what it makes is for inference, and states to keep would fix the length."""
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)
