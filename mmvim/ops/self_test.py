"""Tiny scans and convolutions by compiled kernels, held against PyTorch on the same device.

What a kernel does on a card, only that card shows. :mod:`mmvim.ops.trust` runs this where a process first meets one,
and keeps the verdict. The numbers are the same in every dtype, so that one result of PyTorch in fp64 serves all three;
decays are slow enough for what enters a segment to be seen at its other end.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import mamba_backend, walks
from .form import Form, Tensors
from .walks import Walks, plain_tensors

DTYPES = {torch.float32: 'float32', torch.bfloat16: 'bfloat16', torch.float16: 'float16'}
# Of the largest value that is due: a few roundings of the dtype, of fp32 those of sums.
TOLERANCE = {torch.float32: 3e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
CHANNELS = 33  # one more than a block takes
Results = dict[str, Tensor]


class Scan(NamedTuple):
    """A scan: what it is called in a message, its walks, and which of the options it has."""

    name: str
    walks: Walks
    d_state: int
    rank: int | None
    per_walk: bool
    gate: bool


class Conv(NamedTuple):
    """A convolution: what it is called in a message, its walks, taps, and the order of its results."""

    name: str
    walks: Walks
    taps: int
    step: bool


Case = Scan | Conv


class Unable(Exception):
    """The comparison says nothing about the kernels."""


def first_line(error: Exception) -> str:
    """An error in words."""
    return f'{type(error).__name__}: {next(iter(str(error).splitlines()), "")}'


@cache
def _cases() -> tuple[tuple[Scan, ...], tuple[Conv, ...]]:
    order = torch.arange(70, device='cpu') * 29 % 70
    table = torch.stack([order, order.flip(0)]).masked_fill(order % 11 == 5, -1)  # steps and tokens left out
    tables, columns = walks.from_table(table, 5, 14), walks.cross(5, 14)
    scans = (
        # 9 tiles, of which 4 are a segment where a card would be idle: of three the middle one passes a state on.
        Scan('rows and columns in segments, N = 16', walks.cross(13, 21), 16, 5, False, False),
        Scan('rows and columns in segments, N = 1', columns, 1, 3, False, False),
        Scan('both directions, N = 16', walks.bidirectional(70), 16, None, True, True),
        Scan('a table, N = 16', tables, 16, None, True, True),
        Scan('a table, N = 1', tables, 1, 3, False, False),
    )
    convs = (Conv('rows and columns', columns, 4, False), Conv('a table', tables, 3, True))
    return scans, convs


def _drawn(shapes: dict[str, tuple[int, ...] | None], device: torch.device) -> dict[str, Tensor | None]:
    """Thirty-seconds between -1 and 1, in fp64."""
    generator = torch.Generator('cpu').manual_seed(0)
    drawn = {}
    for name, shape in shapes.items():
        x = None if shape is None else torch.randint(-32, 33, shape, generator=generator, device='cpu')
        drawn[name] = None if x is None else (x.double() / 32).to(device)
    return drawn


def scan_arguments(case: Scan, device: torch.device) -> tuple[Tensors, Form, Tensor]:
    """Tensors, the options, and a gradient of the result, in fp64."""
    K, L, N, R = case.walks.num_walks, case.walks.num_tokens, case.d_state, case.rank
    walk = K if case.per_walk else 1
    drawn = _drawn(
        {
            'u': (2, walk, L, CHANNELS), 'delta': (2, walk, L, R or CHANNELS), 'A': (K, CHANNELS, N),
            'B': (2, walk, L, N), 'C': (2, walk, L, N), 'D': (K, CHANNELS), 'delta_bias': (K, CHANNELS),
            'z': (2, L, CHANNELS) if case.gate else None, 'dt_weight': (K, CHANNELS, R) if R else None,
            'grad': (2, L, CHANNELS),
        },
        device,
    )  # fmt: skip
    grad = drawn.pop('grad')
    drawn['A'] = -(drawn['A'] + 1.0625) / 32  # -0.002 to -0.06: a tile keeps much of what entered it
    form = Form(case.walks.kinds, case.walks.height, case.walks.width, True, False, False, True, 0.5)
    return Tensors(**drawn), form, grad


def conv_arguments(case: Conv, device: torch.device) -> dict[str, Tensor]:
    """x, weight, bias and a gradient of the result, in fp64."""
    K, L = case.walks.num_walks, case.walks.num_tokens
    length = case.walks.num_steps if case.step else L
    shapes = {'x': (2, L, CHANNELS), 'weight': (K, CHANNELS, case.taps), 'bias': (K, CHANNELS)}
    return _drawn({**shapes, 'grad': (2, K, length, CHANNELS)}, device)


def _lowered(inputs: Tensors, dtype: torch.dtype) -> Tensors:
    """As :func:`mmvim.ops.scan` hands them on: parameters stay in the dtype of the state."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    parameters = ('A', 'D', 'delta_bias', 'dt_weight')
    return Tensors(
        *(None if x is None else x.to(state if name in parameters else dtype) for name, x in inputs._asdict().items())
    )


def _results(names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> Results:
    return {name: x for name, x in zip(names, tensors, strict=True) if x.numel()}


def by_operators(case: Case, dtype: torch.dtype, device: torch.device, suffix: str = '') -> Results:
    """Results and gradients of what is registered for the device, or with ``'_torch'`` of PyTorch."""
    table = None if case.walks.table is None else case.walks.table.to(device)
    if isinstance(case, Scan):
        inputs, form, grad = scan_arguments(case, device)
        inputs, grad = _lowered(inputs, dtype), grad.to(dtype)
        forward, backward = (getattr(torch.ops.mmvim, f'scan{pass_}{suffix}') for pass_ in ('', '_backward'))
        y, states, last = forward(*inputs, table, *form, dtype, True)
        grads = backward(grad, *inputs, table, states, *form)
        return {'y': y, 'last_state': last} | _results(tuple(f'd{name}' for name in Tensors._fields), grads)
    given = conv_arguments(case, device)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    x, grad, weight, bias = (
        given[name].to(kind) for name, kind in (('x', dtype), ('grad', dtype), ('weight', state), ('bias', state))
    )
    grid = (case.walks.kinds, case.walks.height, case.walks.width, True, case.step)
    forward, backward = (getattr(torch.ops.mmvim, f'walk_conv{pass_}{suffix}') for pass_ in ('', '_backward'))
    grads = backward(grad, x, weight, bias, table, *grid)
    return {'y': forward(x, weight, bias, table, *grid)} | _results(('dx', 'dweight', 'dbias'), grads)


def by_mamba_ssm(case: Case, dtype: torch.dtype, device: torch.device) -> Results:
    """Results and gradients of mamba-ssm's scan or causal-conv1d's convolution, by autograd."""
    if isinstance(case, Scan):
        inputs, form, grad = scan_arguments(case, device)
        given = _lowered(inputs, dtype)._asdict()
    else:
        given = conv_arguments(case, device)
        grad = given.pop('grad')
        given = {name: x.to(dtype if name == 'x' else torch.float32) for name, x in given.items()}
    with torch.enable_grad():
        leaves = {name: x.requires_grad_() for name, x in given.items() if x is not None}
        if isinstance(case, Scan):
            y, last = mamba_backend.scan(Tensors(**given), case.walks, form, dtype)
            others = {'last_state': last.detach()}
        else:
            y = mamba_backend.walk_conv(**given, walks=case.walks, silu=True, step=case.step)
            others = {}
        grads = torch.autograd.grad(y, list(leaves.values()), grad.to(y.dtype))
    return {'y': y.detach()} | others | _results(tuple(f'd{name}' for name in leaves), grads)


#: What computes which cases, by the name of the kernels. mamba-ssm projects a low-rank delta in half precision, as
#: models written on it do: that is no fault, and such cases are not for it.
KERNELS: dict[str, tuple[Callable[..., Results], Callable[[], list[Case]]]] = {
    'mmvim': (by_operators, lambda: [case for cases in _cases() for case in cases]),
    'mamba_ssm': (by_mamba_ssm, lambda: [case for case in _cases()[0] if case.rank is None]),
    'causal_conv1d': (by_mamba_ssm, lambda: list(_cases()[1])),
}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Whatever modes the caller is in: plain tensors and no gradients, no autocast, no complaints about waiting or
    about cuBLAS, on which PyTorch's side of the comparison runs.
    """
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    waits = torch.cuda.get_sync_debug_mode() if torch.cuda.is_initialized() else None
    with ExitStack() as stack:
        for context in (plain_tensors(), torch.no_grad(), *(torch.autocast(d, enabled=False) for d in ('cpu', 'cuda'))):
            stack.enter_context(context)
        torch.use_deterministic_algorithms(False)
        stack.callback(partial(torch.use_deterministic_algorithms, deterministic[0], warn_only=deterministic[1]))
        if waits is not None:
            torch.cuda.set_sync_debug_mode('default')
            stack.callback(torch.cuda.set_sync_debug_mode, waits)
        yield


def _worst(got: Results, want: Results, dtype: torch.dtype) -> str:
    """The result that is farthest off, in words; empty if all are near enough."""
    fit = [name for name in want if name in got and got[name].shape == want[name].shape]
    if missing := want.keys() - set(fit):
        return f'{min(missing)} is missing or has the wrong shape'
    # One transfer for all of them.
    ratios = torch.stack([(got[name].double() - want[name]).abs().max() / want[name].abs().max() for name in fit])
    off_by = dict(zip(fit, ratios.tolist(), strict=True))
    wrong = {name: off for name, off in off_by.items() if not off <= TOLERANCE[dtype]}
    if not wrong:
        return ''
    name, off = max(wrong.items(), key=lambda item: (item[1] != item[1], item[1]))
    if off != off:
        return f'{name} is not finite'
    return f'{name} is off by {off:.2g} of its largest value, allowed are {TOLERANCE[dtype]:.2g}'


def examine(kernels: str, device: torch.device) -> str:
    """Compute all cases.

    Args:
        kernels: A name in :data:`KERNELS`.
        device: Where.

    Returns:
        Empty, or the first difference in words, and how many there are.

    Raises:
        Unable: If PyTorch's side of the comparison fails.
        RuntimeError: Whatever the kernels raise.
    """
    compute, cases = KERNELS[kernels]
    found: list[str] = []
    total = 0
    with _undisturbed():
        for case in cases():
            try:
                want = by_operators(case, torch.float64, device, '_torch')
            except Exception as error:
                raise Unable(f'PyTorch fails at it ({first_line(error)})') from error
            for dtype, short in DTYPES.items():
                total += 1
                if worst := _worst(compute(case, dtype, device), want, dtype):
                    kind = 'scan' if isinstance(case, Scan) else 'convolution'
                    found.append(f'{kind} ({case.name}, {short}): {worst}')
    return f'{found[0]}; {len(found)} of {total} comparisons differ' if found else ''
