"""The same bits, whatever the number of threads and however often."""

import pytest
import torch
from test_kernels.test_conv_kernels import conv_case

from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.testing import results, scan_case

CASES = {
    'groups': lambda: scan_case(walks.bidirectional(150), channels=200, d_state=4, z=True, dtype=torch.float32),
    'low rank': lambda: scan_case(
        walks.cross(9, 12), channels=100, d_state=1, rank=4, per_walk=False, own_parameters=False, dtype=torch.float32
    ),
    'pairs': lambda: scan_case(walks.cross(9, 12), channels=100, d_state=1, rank=7, dtype=torch.bfloat16),
    'segments': lambda: scan_case(walks.cross(20, 60), batch=1, channels=9, dtype=torch.bfloat16),
    'whole tables': lambda: scan_case(walks.snake(11, 13), channels=70, z=True, dtype=torch.float32),
    'tables': lambda: scan_case(walks.local(11, 13, ('h', 'w3')), channels=70, z=True, dtype=torch.float32),
}


def bits(case):
    return results(scan, CASES[case](), backend='cpu')


def assert_identical(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('case', CASES)
def test_threads(case, threads):
    threads(1)
    alone = bits(case)
    for count in (2, 3):
        threads(count)
        assert_identical(bits(case), alone)


@pytest.mark.parametrize('case', CASES)
def test_runs(case, threads):
    threads(2)
    first = bits(case)
    for _ in range(19):
        assert_identical(bits(case), first)


def test_convolution(threads):
    def run():
        return results(walk_conv, conv_case(walks.cross(17, 20), channels=70), activation='silu', backend='cpu')

    threads(1)
    alone = run()
    for count in (2, 3, *[2] * 17):
        threads(count)
        assert_identical(run(), alone)
