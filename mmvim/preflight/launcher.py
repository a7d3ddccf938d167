"""Whether a process was started by what it was told of."""

import os
from collections.abc import Iterator

from .finding import Finding

# Launcher -> a variable that it sets, and how it is called.
LAUNCHERS = {
    'pytorch': ('RANK', 'torchrun, as in tools/dist_train.sh CONFIG GPUS'),
    'slurm': ('SLURM_PROCID', 'srun, as in tools/slurm_train.sh'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'mpirun'),
}


def check_launcher(launcher: str) -> Iterator[Finding]:
    """Whether the launcher of ``--launcher`` has started this process; ``'none'`` needs nothing."""
    if launcher == 'none':
        return
    variable, command = LAUNCHERS[launcher]
    found = f'--launcher {launcher} works in processes that are started by {command}'
    yield Finding('launcher', variable in os.environ, found)
