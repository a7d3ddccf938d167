"""Values that were not thought of touch no other value, and come out as IEEE 754 says."""

import pytest
import torch
import torch.nn.functional as F

from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import BACKENDS, relative_error, results, scan_case

pytestmark = pytest.mark.parametrize('backend', BACKENDS)
CHANNELS = 19  # no multiple of the lanes of any kernel


def doubled(case):
    return {k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in case.items()}


def outcome(function, case, **kwargs):
    def first(**arguments):
        y, state = function(**arguments, **kwargs)
        first.state = state.detach()
        return y

    return {**results(first, case), 'state': first.state}


def assert_like_reference(case, backend, tolerance=2e-5):
    """Equal to the formula in float64: close where that is finite, the same infinity or NaN elsewhere."""
    want = outcome(scan_reference, doubled(case))
    got = outcome(scan, case, backend=backend, return_last_state=True)
    for name, x in want.items():
        finite = x.isfinite()
        assert torch.equal(got[name].isfinite(), finite), name
        assert torch.equal(got[name].isnan(), x.isnan()), name
        assert relative_error(got[name][finite], x[finite]) < tolerance, name


@pytest.mark.parametrize('value', [-1e6, -1e14, -1e20, -1e30, -3e38, 1e-30])
@pytest.mark.parametrize('length', [40, 600])  # the longer is cut into segments
def test_an_extreme_A_is_no_matter_of_other_states(length, value, backend):
    case = scan_case(
        walks.bidirectional(length), batch=1, channels=CHANNELS, d_state=5, z=True, dtype=torch.float32, seed=3
    )
    case['A'][:, 2, 3] = value
    assert_like_reference(case, backend)


@pytest.mark.parametrize('value', [1e4, 1e10, 1e20, 1e30])
def test_an_extreme_delta(value, backend):
    case = scan_case(walks.cross(5, 8), batch=1, channels=CHANNELS, d_state=4, D=False, dtype=torch.float32)
    case['A'][:, 1] *= torch.tensor([1e-20, 1.0, 1e-6, 1e-30])
    case['delta'][0, :, 11, 1] = value
    case['u'][0, :, 11, 1] = 1e-20
    assert_like_reference(case, backend)


@pytest.mark.parametrize('rank', [None, 3])
@pytest.mark.parametrize('name', ['B', 'C'])
def test_infinite_B_and_C(name, rank, backend):
    case = scan_case(
        walks.cross(4, 8), batch=1, channels=CHANNELS, d_state=3, rank=rank, D=False, dtype=torch.float32, seed=5
    )
    case[name][0, 1, 9, 2] = torch.inf
    case[name][0, 2, 3, 0] = -torch.inf
    assert_like_reference(case, backend)


@pytest.mark.parametrize('softplus', [True, False])
def test_minus_infinite_A(softplus, backend):
    case = scan_case(
        walks.cross(4, 8), batch=1, channels=CHANNELS, d_state=3, delta_softplus=softplus, delta_bias=False,
        dtype=torch.float32,
    )  # fmt: skip
    case['delta'] = case['delta'].abs() + 0.01
    case['A'][:, 4, 1] = -torch.inf
    assert_like_reference(case, backend)
    y = scan(**case, backend=backend)
    case['delta'][0, :, 9, 4] = -torch.inf if softplus else 0.0  # steps of 0
    assert_like_reference(case, backend)
    others = [c for c in range(CHANNELS) if c != 4]
    assert torch.equal(scan(**case, backend=backend)[..., others], y[..., others])


@pytest.mark.parametrize('name', ['u', 'z', 'D'])
def test_infinite_inputs_without_what_they_meet(name, backend):
    case = scan_case(
        walks.cross(4, 8), batch=1, channels=CHANNELS, d_state=3, D=name == 'D', z=True, dtype=torch.float32
    )
    if name == 'D':
        case['D'][:, 3] = torch.inf
    else:
        case[name].flatten()[77] = torch.inf
    assert_like_reference(case, backend)


@pytest.mark.parametrize('value', [-1e30, -1e4, -100.0, -80.0, 1e30])
def test_gates_far_from_zero(value, backend):
    case = scan_case(walks.rows(5), batch=1, channels=CHANNELS, d_state=2, z=True, dtype=torch.float32)
    case['z'][0, 2, 1] = value
    case['u'][0, :, 2, 1] = 1e3
    assert_like_reference(case, backend)
    x = torch.full((1, 5, CHANNELS), value)
    y = walk_conv(x, torch.ones(1, CHANNELS, 1), walks=walks.rows(5), backend=backend)
    torch.testing.assert_close(y[:, 0], F.silu(x.double()).float(), rtol=1e-5, atol=1e-30)


def test_states_that_grow_out_of_nothing(backend):
    """A decay over a whole segment that overflows meets a state, and later a gradient, of 0."""
    case = scan_case(
        walks.rows(1200), batch=1, channels=CHANNELS, d_state=2, delta_softplus=False, delta_bias=False, D=False,
        dtype=torch.float32,
    )  # fmt: skip
    case['delta'] = torch.full_like(case['delta'], -1.0)
    case['A'] = torch.full_like(case['A'], -0.5)
    case['B'].zero_()
    assert not scan(**case, backend=backend).any()
    outcome = results(scan, {**case, 'C': torch.zeros_like(case['C'])}, backend=backend)
    assert all(x.isfinite().all() for x in outcome.values())
