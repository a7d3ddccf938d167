"""What holds for all tests of the compiled kernels."""

import pytest
import torch

from mmvim.ops.backends import has_kernels
from mmvim.ops.testing import EMULATED

# Without the extension there is nothing to test here; tools/check_install.sh holds that it gets built.
collect_ignore_glob = [] if has_kernels('cpu') else ['test_*.py']
collect_ignore = [] if EMULATED else ['test_emulation.py']  # tools/emulate_cuda.sh


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Fresh outputs and scratch memory hold NaN, so that a value which nobody wrote cannot pass for a result."""
    monkeypatch.setenv('MMVIM_POISON', '1')


@pytest.fixture
def threads():
    """Set the number of threads; put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
