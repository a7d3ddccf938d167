"""Run research code that imports mamba-ssm, VMamba's kernels, causal-conv1d or Triton where these are not installed.

``python -m mmvim.shim SCRIPT ARGS...`` runs an unmodified script, ``mmvim.shim.install()`` does the same from within.
The modules of :data:`MODULES` compute with :mod:`mmvim.ops`, on a CPU too. A package that is installed always wins, but
for the Triton kernels of a mamba-ssm without Triton. Processes that the script starts have the shim as well.

Triton's own names are there and compute nothing: a kernel can be defined, and says on a call that it cannot run.
``torch.cuda.device`` of a CPU device does nothing. Not covered, and an error when called or imported: Mamba-2 but for
``selective_state_update``, complex states, several sequences in one row (``seq_idx``), mamba-ssm's language model.
"""

import logging

from .finder import install as _install
from .modules import MODULES

__all__ = ['MODULES', 'install']


def install() -> None:
    """Make the modules of :data:`MODULES` importable that are not installed; says in one line which. Once is enough."""
    served = _install()
    if served is None:
        return
    names = ', '.join(name for name in served if name != 'triton') or 'nothing'
    alone = '; triton: its names alone' if 'triton' in served else ''
    logging.getLogger('mmvim').warning('mmvim.shim: %s: computed by mmvim.ops%s', names, alone)
