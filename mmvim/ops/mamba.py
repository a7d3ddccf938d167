"""Scans and convolutions by the names and signatures that code written for mamba-ssm and causal-conv1d calls.

Channels come before the sequence here, (B, D, L), as in those packages. Sequences that lie channel-last in memory are
read in place; others are transposed once, since that is how the operators of this project read tokens.

Outside the scope: sequences of several lengths in one row (``seq_idx``, varlen). ``mamba_inner_fn`` and the
``*_update`` functions that generate token by token are in :mod:`mmvim.shim`.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserNotImplementedError, UserTypeError, UserValueError

from . import walks
from .interface import expect_optional_tensors, expect_tensors, scan, walk_conv
from .walking import state_dtype


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan with the arguments of mamba-ssm's function of the same name (https://arxiv.org/abs/2312.00752).

    ``u``, ``delta``, ``z``, ``B`` and ``C`` may differ in dtype: they meet in the widest one. The state is fp32 (fp64
    for fp64 inputs). There is no gradient through the last state, as in mamba-ssm, and no complex A.

    Args:
        u: (B, D, L).
        delta: Step size, (B, D, L).
        A: (D, N), real.
        B: (B, N, L), (B, G, N, L) for G groups of D / G channels, or constant (D, N). With a constant B or C, tensors
            of B * D * L * N elements are held.
        C: As B.
        D: Skip connection, (D,).
        z: Gate (B, D, L): the result is multiplied with silu(z).
        delta_bias: (D,), added to delta.
        delta_softplus: Whether delta goes through softplus, after its bias.
        return_last_state: Whether to return the state behind the last step as well.

    Returns:
        y, (B, D, L) in the dtype and memory layout of u; with ``return_last_state`` also the state (B, D, N).

    Raises:
        TypeError: If A is complex, or a dtype is not supported.
        ValueError: If shapes or devices do not fit.
    """
    y, state = scan_unrounded(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    y = in_layout_of(u, y.to(u.dtype))
    return (y, state) if return_last_state else y


def scan_unrounded(u, delta, A, B, C, D, z, delta_bias, delta_softplus) -> tuple[Tensor, Tensor]:
    """:func:`selective_scan_fn` before it rounds: y (B, D, L) in the dtype of the state, and the state."""
    expect_tensors(u=u, delta=delta, A=A, B=B, C=C)
    expect_optional_tensors(D=D, z=z, delta_bias=delta_bias)
    if A.is_complex():
        raise UserTypeError('A is complex: complex states are not supported, A must be real')
    if u.dim() != 3 or 0 in u.shape[1:] or A.dim() != 2:
        shapes = f'{tuple(u.shape)} and {tuple(A.shape)}'
        raise UserValueError(f'u and A: expected (B, D, L), D and L not empty, and (D, N), got {shapes}')
    (batch, channels, length), d_state = u.shape, A.shape[1]
    _expect('A', A, (channels, d_state))
    _expect('delta', delta, u.shape)
    _expect('z', z, u.shape)
    _expect('D', D, (channels,))
    _expect('delta_bias', delta_bias, (channels,))
    for name, x in (('B', B), ('C', C)):
        groups = x.shape[1] if x.dim() == 4 and x.shape[1] and channels % x.shape[1] == 0 else 'G'
        shapes = (channels, d_state), (batch, d_state, length), (batch, groups, d_state, length)
        _expect(name, x, shapes[x.dim() - 2] if 2 <= x.dim() <= 4 else shapes)

    u, delta, B, C, z = _widest(u, delta, B, C, z)
    form = _scan_expanded if 2 in (B.dim(), C.dim()) else _scan_groups
    return form(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def _scan_groups(u, delta, A, B, C, D, z, delta_bias, delta_softplus) -> tuple[Tensor, Tensor]:
    """B, C (B[, 1|G], N, L): every group of channels is a walk of its own. Returns y (B, D, L) in the state dtype."""
    B, C = (x.unsqueeze(1) if x.dim() == 3 else x for x in (B, C))
    groups = max(B.shape[1], C.shape[1])
    if not {B.shape[1], C.shape[1]} <= {1, groups}:
        raise UserValueError(f'B and C: expected the same number of groups, got {B.shape[1]} and {C.shape[1]}')

    def split(x: Tensor) -> Tensor:
        return _transposed(x.unflatten(1, (groups, -1)).flatten(0, 1)).unflatten(0, (-1, groups))

    A, D, delta_bias = (None if x is None else x.unflatten(0, (groups, -1)) for x in (A, D, delta_bias))
    y, state = scan(
        split(u), split(delta), A, B.transpose(-1, -2), C.transpose(-1, -2), D,
        walks=walks.rows(u.shape[-1], groups), z=_transposed(z) if z is not None and groups == 1 else None,
        delta_bias=delta_bias, delta_softplus=delta_softplus, merge='none', out_dtype=state_dtype(u.dtype),
        return_last_state=True,
    )  # fmt: skip
    y = y.transpose(-1, -2).flatten(1, 2)
    return y if groups == 1 else _gate(y, z), state.flatten(1, 2)


def _scan_expanded(u, delta, A, B, C, D, z, delta_bias, delta_softplus) -> tuple[Tensor, Tensor]:
    """B or C (D, N) differs from channel to channel, so every state becomes a channel with one state of its own."""
    (channels, d_state), length = A.shape, u.shape[-1]
    u, delta, B, C = (x.to(state_dtype(u.dtype)) for x in (u, delta, B, C))

    def per_channel(x: Tensor) -> Tensor:  # (D, N) as it is, else (B, L, 1|D, N)
        if x.dim() == 2:
            return x
        if x.dim() == 3:
            return x.transpose(1, 2).unsqueeze(2)
        return x.repeat_interleave(channels // x.shape[1], 1).permute(0, 3, 1, 2)

    one = u.new_ones(1, 1, 1).expand(len(u), length, 1)
    h, state = scan(
        (u.transpose(1, 2).unsqueeze(-1) * per_channel(B)).flatten(2),
        delta.transpose(1, 2).repeat_interleave(d_state, -1), A.reshape(1, -1, 1), one, one, walks=walks.rows(length),
        delta_bias=None if delta_bias is None else delta_bias.repeat_interleave(d_state).unsqueeze(0),
        delta_softplus=delta_softplus, return_last_state=True,
    )  # fmt: skip
    y = (h.unflatten(-1, (channels, d_state)) * per_channel(C)).sum(-1).transpose(1, 2)
    y = y if D is None else y + D.unsqueeze(-1) * u
    return _gate(y, z), state.view(len(u), channels, d_state)


def _gate(y: Tensor, z: Tensor | None) -> Tensor:
    return y if z is None else y * F.silu(z.to(y.dtype))


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Depthwise causal convolution with the arguments of causal-conv1d's function of the same name.

    Every argument has a gradient, through the final states as well.

    Args:
        x: (B, D, L), channel-first or channel-last in memory.
        weight: (D, W), tap W - 1 multiplies the current step.
        bias: (D,).
        seq_idx: Must be None.
        initial_states: Inputs in front of the first step, (B, D, W - 1); zeros by default.
        return_final_states: Whether to return the last W - 1 inputs, the ``initial_states`` of what follows.
        final_states_out: (B, D, W - 1), where to write these.
        activation: ``None``, ``'silu'`` or ``'swish'`` (the same).

    Returns:
        y, (B, D, L) in the dtype and memory layout of x; with ``return_final_states`` also these, (B, D, W - 1).

    Raises:
        NotImplementedError: If ``seq_idx`` is given.
        TypeError: If a dtype is not supported.
        ValueError: If shapes or devices do not fit.
    """
    if seq_idx is not None:
        raise UserNotImplementedError(
            'seq_idx: several sequences in one row are not supported, pass one sequence per row'
        )
    expect_tensors(x=x, weight=weight)
    expect_optional_tensors(bias=bias, initial_states=initial_states, final_states_out=final_states_out)
    if activation not in (None, 'silu', 'swish'):
        raise UserValueError(f"activation={activation!r}: expected None, 'silu' or 'swish'")
    if x.dim() != 3 or 0 in x.shape[1:] or weight.dim() != 2 or weight.shape[1] == 0:
        shapes = f'{tuple(x.shape)} and {tuple(weight.shape)}'
        raise UserValueError(f'x and weight: expected (B, D, L) and (D, W), D, L and W not empty, got {shapes}')
    batch, channels, length = x.shape
    history = weight.shape[1] - 1
    _expect('weight', weight, (channels, history + 1))
    _expect('bias', bias, (channels,))
    _expect('initial_states', initial_states, (batch, channels, history))
    _expect('final_states_out', final_states_out, (batch, channels, history))
    seen = x if initial_states is None else torch.cat([initial_states.to(x.dtype), x], -1)
    y = walk_conv(
        _transposed(seen), weight.unsqueeze(0), None if bias is None else bias.unsqueeze(0),
        walks=walks.rows(seen.shape[-1]), activation=activation and 'silu',
    )  # fmt: skip
    y = in_layout_of(x, y[:, 0, -length:].transpose(1, 2))
    if not return_final_states:
        return y
    final_states = F.pad(seen, (history - seen.shape[-1], 0))  # a negative pad cuts
    return y, final_states if final_states_out is None else final_states_out.copy_(final_states)


def _expect(name: str, x: Tensor | None, shape: tuple) -> None:
    if x is not None and tuple(x.shape) != tuple(shape):
        raise UserValueError(f'{name}: expected {tuple(shape)}, got {tuple(x.shape)}')


def _widest(*tensors: Tensor | None) -> list[Tensor | None]:
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors if x is not None))
    return [None if x is None else x.to(dtype) for x in tensors]


def in_layout_of(x: Tensor, y: Tensor) -> Tensor:
    """y (B, D, L) as it comes, channel-last in memory, if x is so too; else with the sequence last in memory."""
    return y if x.stride(1) == 1 and x.stride(2) != 1 else _transposed(y.transpose(1, 2)).contiguous()


def _transposed(x: Tensor) -> Tensor:
    """(B, M, N) to (B, N, M), which is dense where x is so.

    On a CPU PyTorch copies two long axes block by block, but three with a stride, which takes 2 to 5 times as long.
    """
    plain = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()
    if plain or not x.is_cpu or x.stride(2) != 1 or min(x.shape[1:]) < 60 or not 0 < len(x) <= 64:
        return x.transpose(1, 2)
    samples = [sample.t().contiguous() for sample in x.unbind()]
    return samples[0].unsqueeze(0) if len(samples) == 1 else torch.stack(samples)
