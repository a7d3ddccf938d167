"""Python, torch, the compiler, and what the scans run on."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from .finding import Finding

OLDEST_TORCH = (2, 4)


def examine_python() -> Iterator[Finding]:
    """The Python that runs this."""
    good = (3, 10) <= sys.version_info[:2] < (3, 14)
    found = f'{platform.python_version()}, {sys.executable}'
    yield Finding('Python', good, found, '' if good else 'use Python 3.10 to 3.13 (tested: 3.11)')


def examine_torch() -> Iterator[Finding]:
    """PyTorch and the devices that it sees."""
    if find_spec('torch') is None:
        yield Finding('torch', False, 'not installed', 'make demo, or pip install torch==2.13.0')
        return
    import torch

    version = str(torch.__version__)
    if tuple(map(int, version.split('.')[:2])) >= OLDEST_TORCH:
        yield Finding('torch', True, f'{version}, {torch.get_num_threads()} threads on {os.cpu_count()} cores')
    else:
        yield Finding('torch', False, f'{version}, too old', "pip install 'torch>=2.10'")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Finding('GPU', True, f'{index}: {device.name}, {device.total_memory / 2**30:.0f} GiB')
    elif shutil.which('nvidia-smi') and torch.version.cuda is None:
        found = 'there is one, torch is built for the CPU'
        yield Finding('GPU', False, found, 'install a CUDA build of torch', needed=False)
    else:
        yield Finding('GPU', True, 'none; everything runs on the CPU')


def examine_kernels() -> Iterator[Finding]:
    """What the scans run on; what cannot be had here is no fault."""
    if find_spec('torch') is None:
        return
    for row in import_module('mmvim.ops.backends').report():
        found = row.reason if row.available else f'not available: {row.reason}'
        yield Finding(f'scan: {row.name}', row.available or not row.remedy, found, row.remedy, needed=False)


def examine_compiler() -> Iterator[Finding]:
    """The C++ compiler that would build kernels."""
    command = os.environ.get('CXX') or next(filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None)
    if command is None:
        found = 'none; the C++ kernels and mmcv ops need one'
        yield Finding('C++ compiler', False, found, 'apt-get install g++', needed=False)
        return
    answer = subprocess.run([*command.split(), '--version'], capture_output=True, text=True, timeout=20)
    if answer.returncode:
        found = f'{command} does not work'
        yield Finding('C++ compiler', False, found, 'set CXX to a C++ compiler', needed=False)
    else:
        yield Finding('C++ compiler', True, f'{command}: {answer.stdout.splitlines()[0]}')
