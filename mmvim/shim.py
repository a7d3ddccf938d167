"""Run research code that imports mamba-ssm, VMamba's scan kernels or causal-conv1d where these are not installed.

``python -m mmvim.shim SCRIPT ARGS...`` runs an unmodified script, ``mmvim.shim.install()`` does the same from within.
The modules of :data:`MODULES` compute with :mod:`mmvim.ops`, on a CPU too. A package that is installed always wins.

The backward pass of the ``selective_scan_cuda*`` modules runs the scan a second time rather than keep its states.
``mamba_inner_fn`` and the ``*_update`` functions are not covered: they raise an error when called. Code that enters
``torch.cuda.device(x.device)`` around its own operations, as VMamba's cross-scan does, still needs a GPU for these.
"""

import logging
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.ops import causal_conv1d_fn, selective_scan_fn


def _forward(u, delta, A, B, C, D, z, delta_bias, delta_softplus, out_dtype=None) -> list[Tensor]:
    """[y, x], and the gated y if there is z; x (B, D, 1, 2N) has the last state at its odd places, as mamba-ssm's."""
    wide = u.to(torch.promote_types(u.dtype, torch.float32))
    y, state = selective_scan_fn(wide, delta, A, B, C, D, None, delta_bias, delta_softplus, return_last_state=True)
    x = torch.stack([torch.zeros_like(state), state], -1).flatten(2).unsqueeze(2)
    gated = [] if z is None else [(y * F.silu(z.to(y.dtype))).to(u.dtype)]
    return [y.to(out_dtype or u.dtype), x, *gated]


def _backward(u, delta, A, B, C, D, z, delta_bias, dout, delta_softplus) -> tuple[list[Tensor | None], Tensor]:
    """Gradients of the eight tensors, None where they are None, and the result that they belong to."""
    inputs = [None if t is None else t.detach().requires_grad_() for t in (u, delta, A, B, C, D, z, delta_bias)]
    with torch.enable_grad():
        y = selective_scan_fn(inputs[0].to(dout.dtype), *inputs[1:], delta_softplus)
    grads = iter(torch.autograd.grad(y, [t for t in inputs if t is not None], dout))
    return [None if t is None else next(grads) for t in inputs], y.detach()


def _mamba_bwd(u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute_out_z):
    (*grads, dz_, dbias), y = _backward(u, delta, A, B, C, D, z, delta_bias, dout, delta_softplus)
    dz = dz_ if dz is None or dz_ is None else dz.copy_(dz_)
    return [*grads, dbias, *([] if z is None else [dz]), *([y] if recompute_out_z else [])]


def _core_fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, nrows, out_float=False):
    out_dtype = torch.promote_types(u.dtype, torch.float32) if out_float else u.dtype
    return _forward(u, delta, A, B, C, D, None, delta_bias, delta_softplus, out_dtype)


def _core_bwd(u, delta, A, B, C, D, delta_bias, dout, x, delta_softplus, nrows):
    return _mamba_bwd(u, delta, A, B, C, D, None, delta_bias, dout, x, None, None, delta_softplus, False)


def _uncovered(name: str, advice: str) -> Callable:
    def function(*args, **kwargs):
        raise NotImplementedError(f'mmvim.shim does not cover {name}: {advice}')

    return function


_scan = {
    'selective_scan_fn': selective_scan_fn,
    'selective_scan_ref': selective_scan_fn,
    'mamba_inner_fn': _uncovered('mamba_inner_fn', 'build the model with use_fast_path=False'),
}
_conv = {
    'causal_conv1d_fn': causal_conv1d_fn,
    'causal_conv1d_update': _uncovered('causal_conv1d_update', 'run whole sequences through causal_conv1d_fn'),
}
MODULES = {
    'mamba_ssm': _scan,
    'mamba_ssm.ops': {},
    'mamba_ssm.ops.selective_scan_interface': _scan,
    'selective_scan_cuda': {'fwd': _forward, 'bwd': _mamba_bwd},
    'selective_scan_cuda_core': {'fwd': _core_fwd, 'bwd': _core_bwd},
    'selective_scan_cuda_oflex': {'fwd': _core_fwd, 'bwd': _core_bwd},
    'causal_conv1d': _conv,
    'causal_conv1d.causal_conv1d_interface': _conv,
}


class _Finder(MetaPathFinder, Loader):
    """Stands last in ``sys.meta_path``, so it is asked only for what nobody else has."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition('.')[0])
        inside_other_package = parent is not None and getattr(parent.__spec__, 'loader', None) is not self
        if name not in MODULES or inside_other_package:
            return None
        return ModuleSpec(name, self, origin=__file__, is_package=any(m.startswith(f'{name}.') for m in MODULES))

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(MODULES[module.__name__])


def install() -> None:
    """Make the modules of :data:`MODULES` importable that are not installed; says in one line which. Once is enough."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    absent = [name for name in MODULES if '.' not in name and name not in sys.modules and find_spec(name) is None]
    sys.meta_path.append(_Finder())
    logging.getLogger('mmvim').warning('mmvim.shim: %s: computed by mmvim.ops', ', '.join(absent) or 'nothing')


if __name__ == '__main__':
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(f'no such script: {" ".join(sys.argv[1:2])}\nusage: python -m mmvim.shim SCRIPT ARGS...')
    import_module('mmvim.shim').install()  # not this module's: a script may ask for it again by that name
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name='__main__')
