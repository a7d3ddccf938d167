"""The self-test of kernels: what it notices, what it costs, and that it disturbs nobody.

tools/emulate_cuda.sh runs this on the emulated CUDA kernels.
"""

import re

import pytest
import torch
from test_ops.test_mamba_backend import packages  # noqa: F401  a fixture
from torch.profiler import ProfilerActivity, profile

from mmvim.ops import self_test
from mmvim.ops.self_test import DTYPES, KERNELS, Scan, by_mamba_ssm, by_operators, examine

CPU = torch.device('cpu')
MILLISECONDS, LAUNCH = 300, 0.02  # the budget, and what one operation of PyTorch on a GPU takes a slow host


def altered(change):
    """The operators with ``change(case, dtype, results)`` done to what they return."""

    def compute(case, dtype, device):
        results = by_operators(case, dtype, device)
        change(case, dtype, results)
        return results

    return compute


def examine_altered(monkeypatch, change) -> str:
    monkeypatch.setitem(KERNELS, 'mmvim', (altered(change), KERNELS['mmvim'][1]))
    return examine('mmvim', CPU)


def test_what_is_here_is_right():
    assert examine('mmvim', CPU) == ''


def test_cases_are_those_that_differ_in_kernels():
    cases = [case for case in KERNELS['mmvim'][1]() if isinstance(case, Scan)]
    assert {(case.d_state, case.walks.table is None) for case in cases} == {
        (1, True),
        (16, True),
        (1, False),
        (16, False),
    }
    assert {kind for case in cases for kind in case.walks.kinds} == {0, 1, 2, 3}
    assert set(DTYPES) == {torch.float32, torch.bfloat16, torch.float16}
    longest = max(case.walks.num_steps for case in cases if case.d_state == 16)
    assert longest > 8 * 32  # three segments of 4 tiles or fewer, the least where there are 16 states
    table = next(case.walks.table for case in cases if case.walks.table is not None)
    assert (table == -1).any()
    assert len(table[0].unique()) - 1 < 70


NAMES = ('y', 'last_state', 'du', 'ddelta', 'dA', 'dB', 'dC', 'dD', 'dz', 'ddelta_bias', 'ddt_weight')


@pytest.mark.parametrize('name', NAMES)
def test_one_wrong_element_is_noticed(name, monkeypatch):
    def change(case, dtype, results):
        if isinstance(case, Scan) and dtype == torch.bfloat16 and name in results:
            flat = results[name].view(-1)
            flat[len(flat) // 2] += 0.02 * flat.abs().max()

    problem = examine_altered(monkeypatch, change)
    assert re.search(rf'bfloat16\): {name} is off by 0.0(19|2\d?) of its largest value, allowed are 0.008; ', problem)
    assert problem.startswith('scan (')
    assert problem.endswith(f'of {3 * len(KERNELS["mmvim"][1]())} comparisons differ')


@pytest.mark.parametrize('name', ['y', 'dx', 'dweight', 'dbias'])
def test_a_wrong_convolution_is_noticed(name, monkeypatch):
    def change(case, dtype, results):
        if not isinstance(case, Scan) and dtype == torch.float32:
            results[name] = results[name] * 1.0001

    assert f'convolution (rows and columns, float32): {name} is off by 0.0001' in examine_altered(monkeypatch, change)


def test_nan_and_shapes_are_noticed(monkeypatch):
    def unwritten(case, dtype, results):
        results['y'][0, 0, 0] = torch.nan

    def missing(case, dtype, results):
        results.pop('dA', None)

    assert 'y is not finite' in examine_altered(monkeypatch, unwritten)
    assert 'dA is missing or has the wrong shape' in examine_altered(monkeypatch, missing)


def test_what_enters_a_segment_is_noticed():
    """The gradient and state that go from segment to segment are no rounding error at its other end."""
    for case in KERNELS['mmvim'][1]():
        if isinstance(case, Scan):
            inputs, form, _ = self_test.scan_arguments(case, CPU)
            right = by_operators(case, torch.float64, CPU, '_torch')['last_state']
            cut = inputs.B.clone()
            cut[:, :, : case.walks.num_tokens // 2] = 0
            options = (None if case.walks.table is None else case.walks.table, *form, torch.float64, True)
            last = torch.ops.mmvim.scan_torch(*inputs._replace(B=cut), *options)[2]
            assert (last - right).abs().max() > 0.03 * right.abs().max()


def test_cost():
    """Operations of PyTorch's side, each a launch on a GPU; the kernels' side takes 21 calls of about ten launches."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for case in KERNELS['mmvim'][1]():
            by_operators(case, torch.float64, CPU, '_torch')
    views = ('view', 'select', 'slice', 'expand', 'squeeze', 'transpose', 'as_strided', 'reshape', 'alias', 'empty')
    launches = [
        event
        for event in profiler.events()
        if event.name.startswith('aten::') and not event.cpu_children and not any(word in event.name for word in views)
    ]
    assert 1000 < len(launches) < MILLISECONDS / LAUNCH


def test_modes_of_the_caller_do_not_matter():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        state = torch.random.get_rng_state()
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16), torch.device('meta'):
            assert examine('mmvim', CPU) == ''
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.equal(state, torch.random.get_rng_state())
    finally:
        torch.use_deterministic_algorithms(False)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        examine('mmvim', CPU)
    assert counter.get_total_flops() == 0


def test_a_failure_of_pytorch_is_no_verdict(monkeypatch):
    def fails(case, dtype, device, suffix=''):
        raise RuntimeError('no such algorithm')

    monkeypatch.setattr(self_test, 'by_operators', fails)
    with pytest.raises(self_test.Unable, match=r'PyTorch fails at it \(RuntimeError: no such algorithm\)'):
        examine('mmvim', CPU)


@pytest.mark.parametrize('kernels', ['mamba_ssm', 'causal_conv1d'])
def test_other_packages(kernels, packages, monkeypatch):  # noqa: F811
    assert examine(kernels, CPU) == ''

    def wrong(case, dtype, device):
        results = by_mamba_ssm(case, dtype, device)
        results['y'] = results['y'].flip(-2)
        return results

    monkeypatch.setitem(KERNELS, kernels, (wrong, KERNELS[kernels][1]))
    assert 'y is off by' in examine(kernels, CPU)
