"""``backend='mamba_ssm'``: scans and convolutions on the compiled kernels of mamba-ssm and causal-conv1d.

For comparison with these packages, and for cards that mmvim's own kernels are not built for. Tokens are put into
walking order first, channels before the sequence, every walk as a group of its own: copies that mmvim's kernels do
without. A low-rank delta is projected in the dtype of the inputs, as models written on mamba-ssm do it. The backward
pass adds with atomics: its bits are not the same on every run.

Written after the signatures of mamba-ssm 2.3.2 and causal-conv1d 1.7.0; tested on stand-ins for them, not on a GPU.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserRuntimeError

from .form import Form, Tensors
from .walking import state_dtype, unwalked, walked
from .walks import Walks

# Some releases build the scan of Mamba-1 only when told to keep it.
INSTALL = (
    'MAMBA_FORCE_BUILD=TRUE MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation --no-deps --force-reinstall '
    'mamba-ssm'
)
INSTALL_CONV = 'pip install --no-build-isolation causal-conv1d'
TAPS = (2, 3, 4)  # what causal-conv1d is compiled for


class Package(NamedTuple):
    """A foreign package, and why it cannot be used.

    Attributes:
        name: Name and version, ``'mamba-ssm 2.3.2'``.
        reason: Why it is not available; empty if it is.
        remedy: What to type.
    """

    name: str
    reason: str = ''
    remedy: str = ''


@cache
def find_scan() -> Package:
    """mamba-ssm, whose compiled part is a module of its own and need not be there."""
    return _find('mamba-ssm', 'selective_scan_cuda', INSTALL)


@cache
def find_conv() -> Package:
    """causal-conv1d."""
    return _find('causal-conv1d', 'causal_conv1d_cuda', INSTALL_CONV)


def _find(distribution: str, extension: str, remedy: str) -> Package:
    try:
        name = f'{distribution} {version(distribution)}'
    except PackageNotFoundError:
        return Package(distribution, f'{distribution} is not installed', remedy)
    try:
        loader = import_module(extension).__spec__.loader
    except ModuleNotFoundError:
        return Package(name, f'{name} is installed without its compiled part {extension}', remedy)
    except ImportError as error:
        return Package(name, f'{extension} of {name} does not load: {str(error).splitlines()[0]}', remedy)
    if type(loader).__module__.startswith('mmvim.shim'):
        return Package(name, f'mmvim.shim stands in for {extension} of {name}', remedy)
    return Package(name)


def _function(module: str, name: str) -> Callable:
    """A function of a package. Only here the whole package is imported, which may take seconds."""
    try:
        return getattr(import_module(module), name)
    except Exception as error:
        raise UserRuntimeError(f"backend 'mamba_ssm': {module} cannot be imported, {error}") from error


def scan(inputs: Tensors, walks: Walks, form: Form, out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``mmvim::scan`` of :mod:`mmvim.ops.library` on mamba-ssm: y and the last state."""
    selective_scan_fn = _function('mamba_ssm.ops.selective_scan_interface', 'selective_scan_fn')
    count = walks.num_walks

    def channels_first(x: Tensor, in_steps: bool) -> Tensor:  # (B, K, C, S)
        return walked(x, walks, in_steps).transpose(2, 3)

    def per_channel(x: Tensor | None) -> Tensor | None:  # (1|K, D, ...) to (K * D, ...)
        return None if x is None else x.expand(count, *x.shape[1:]).flatten(0, 1).contiguous()

    delta = channels_first(inputs.delta, form.param_step)
    if inputs.dt_weight is not None:
        delta = inputs.dt_weight.to(delta.dtype) @ delta
    B, C = (channels_first(x, form.param_step).contiguous() for x in (inputs.B, inputs.C))
    y, last_state = selective_scan_fn(
        channels_first(inputs.u, form.u_step).flatten(1, 2), delta.flatten(1, 2), per_channel(inputs.A), B, C,
        per_channel(inputs.D), delta_bias=per_channel(inputs.delta_bias), delta_softplus=form.delta_softplus,
        return_last_state=True,
    )  # fmt: skip
    y = unwalked(y.unflatten(1, (count, -1)).transpose(2, 3).to(state_dtype(inputs.u.dtype)), walks)
    y = (y.sum(1) if form.merge else y) * form.scale
    if inputs.z is not None:
        gate = F.silu(inputs.z.to(y.dtype))
        y = y * (gate if form.merge else gate.unsqueeze(1))
    return y.to(out_dtype), last_state.unflatten(1, (count, -1))


def walk_conv(x: Tensor, weight: Tensor, bias: Tensor | None, walks: Walks, silu: bool, step: bool) -> Tensor:
    """``mmvim::walk_conv`` of :mod:`mmvim.ops.library` on causal-conv1d.

    Raises:
        RuntimeError: If causal-conv1d is not compiled for the number of taps.
    """
    if weight.shape[-1] not in TAPS:
        raise UserRuntimeError(f"backend 'mamba_ssm' takes 2 to 4 taps, got {weight.shape[-1]}; use backend='auto'")
    causal_conv1d_fn = _function('causal_conv1d', 'causal_conv1d_fn')
    sequences = walked(x.unsqueeze(1), walks, False).transpose(2, 3).flatten(1, 2).contiguous()
    bias = None if bias is None else bias.flatten()
    y = causal_conv1d_fn(sequences, weight.flatten(0, 1), bias, activation='silu' if silu else None)
    y = y.unflatten(1, (walks.num_walks, -1)).transpose(2, 3)
    return y.contiguous() if step else unwalked(y, walks)
