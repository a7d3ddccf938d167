"""CUDA kernels on the emulator: the same bits in whatever order threads and blocks take their turns."""

import pytest
import torch
from test_kernels.test_conv_kernels import conv_case

from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.testing import assert_same, results, scan_case

ORDER = 'MMVIM_EMULATE_ORDER'
MULTIPROCESSORS = 'MMVIM_EMULATE_MULTIPROCESSORS'
SCANS = {
    'both directions': lambda: scan_case(walks.bidirectional(70), batch=1, channels=33, d_state=16, z=True),
    'low rank': lambda: scan_case(walks.cross(5, 14), batch=1, channels=33, d_state=1, rank=5, per_walk=False),
    'tables': lambda: scan_case(walks.local(5, 14, ('h', 'w3')), batch=1, channels=7, d_state=3, z=True),
    'apart': lambda: scan_case(walks.cross(5, 14), batch=1, channels=9, d_state=4, merge='none', own_parameters=False),
}
CONVS = {
    'both directions': lambda: conv_case(walks.bidirectional(150), channels=70),
    'any taps': lambda: conv_case(walks.cross(5, 14), channels=9, taps=7),
    'tables': lambda: conv_case(walks.local(5, 14, ('h', 'w3')), channels=33, dtype=torch.bfloat16),
}


def assert_bits_in_any_order(function, case, monkeypatch):
    outcomes = []
    for order in ('forward', 'reverse', 'shuffle'):
        monkeypatch.setenv(ORDER, order)
        outcomes.append(results(function, case(), backend='cpu'))
    for other in outcomes[1:]:
        assert all(torch.equal(other[name], x) for name, x in outcomes[0].items())


@pytest.mark.parametrize('multiprocessors', ['1', '132'])  # walks as a whole, and in the shortest segments
@pytest.mark.parametrize('case', SCANS)
def test_scan(case, multiprocessors, monkeypatch):
    monkeypatch.setenv(MULTIPROCESSORS, multiprocessors)
    assert_bits_in_any_order(scan, SCANS[case], monkeypatch)


@pytest.mark.parametrize('d_state', [3, 16])
def test_segments_agree_with_one_pass(d_state, monkeypatch):
    case = scan_case(walks.cross(20, 30), batch=1, channels=9, d_state=d_state, z=True)
    outcomes = []
    for multiprocessors in ('1', '132'):
        monkeypatch.setenv(MULTIPROCESSORS, multiprocessors)
        outcomes.append(results(scan, case, backend='cpu'))
    assert_same(*outcomes, 1e-5, gradients=3)
    assert not torch.equal(*(outcome['y'] for outcome in outcomes))  # else there were no segments


@pytest.mark.parametrize('case', CONVS)
def test_walk_conv(case, monkeypatch):
    assert_bits_in_any_order(walk_conv, CONVS[case], monkeypatch)


def test_float64_is_refused():
    with pytest.raises(RuntimeError, match='take float32, bfloat16 and float16 tensors, got float64'):
        scan(**scan_case(walks.rows(5), dtype=torch.float64), backend='cpu')


def test_walks_beyond_32_bits_are_refused(monkeypatch):
    """Before anything is read or written: the tensors are one number, and the results' memory is never touched."""
    monkeypatch.setenv('MMVIM_POISON', '0')
    length = 2**31 - 10
    x = torch.ones(1, 1, 1, 1, dtype=torch.float16).expand(1, 1, length, 1)
    grid = ([0], 1, length)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match='scan failed in the emulator: invalid argument'):
            options = (True, False, False, True, 1.0, torch.float16, False)
            torch.ops.mmvim.scan(x, x, -torch.ones(1, 1, 1), x, x, *[None] * 5, *grid, *options)
        with pytest.raises(RuntimeError, match='walk_conv failed in the emulator: invalid argument'):
            torch.ops.mmvim.walk_conv(x[0], torch.ones(1, 1, 4), None, None, *grid, True, False)
