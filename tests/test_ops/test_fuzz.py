"""Random scans with extreme values. For many: tools/fuzz_scan.sh."""

import os

import pytest
from test_ops.fuzz import mistakes

from mmvim.ops.testing import BACKENDS

COUNT = int(os.environ.get('MMVIM_FUZZ_CASES', '150'))
FIRST = int(os.environ.get('MMVIM_FUZZ_FIRST', '1'))
CHUNK = 50  # cases of one test


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('first', range(FIRST, FIRST + COUNT, CHUNK))
def test_random_scans(first, backend):
    wrong = {}
    for seed in range(first, min(first + CHUNK, FIRST + COUNT)):
        if found := mistakes(seed, backend):
            wrong[seed] = found
    assert not wrong, '\n'.join(f'case {seed}: {"; ".join(found)}' for seed, found in wrong.items())
