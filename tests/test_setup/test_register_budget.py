"""The check of the CUDA kernels' registers finds what it is for, and the budget that is checked in can be read."""

import shutil

import pytest

from kernels.check_cuda import BUDGET, Usage, complaints, parse_ptxas, read_budget, readable, shorten, write_budget

SAID = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4fastPf' for 'sm_80'
ptxas info    : Function properties for _Z4fastPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers
ptxas info    : Compiling entry function '_Z4fastPf' for 'sm_90a'
ptxas info    : Function properties for _Z4fastPf
    48 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 48 bytes cumulative stack size
ptxas info    : Compiling entry function '_Z4slowPf' for 'sm_80'
ptxas info    : Function properties for _Z4slowPf
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
ptxas info    : Compiling entry function '_Z4fastPf' for 'sm_80'
ptxas info    : Function properties for _Z4fastPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 1 barriers
"""
FAST = {80: Usage(30, 0), 90: Usage(32, 0)}


def test_what_ptxas_says():
    assert parse_ptxas(SAID) == {'_Z4fastPf': FAST, '_Z4slowPf': {80: Usage(255, 32)}}
    assert parse_ptxas('nvcc warning : no kernels') == {}


@pytest.mark.parametrize(
    ('name', 'short'),
    [
        ('void mmvim::cuda::conv_forward<4, __nv_bfloat16>(mmvim::ConvForward, float*)', 'conv_forward<4, bfloat16>'),
        ('void mmvim::cuda::(anonymous namespace)::convert<__half>(float const*, __half*)', 'convert<float16>'),
        ('void mmvim::cuda::scan<(bool)1, float>(mmvim::ScanForward)', 'scan<(bool)1, float>'),
        ('plain(float*)', 'plain'),
    ],
)
def test_names(name, short):
    assert shorten(name) == short


def test_names_come_from_the_compilers_own_tool():
    assert shutil.which('c++filt')
    assert readable(['_Z4fastPf']) == {'_Z4fastPf': 'fast'}


def test_budget_of_what_is_there_is_kept():
    table = {'fast': FAST, 'a<4, float>': {80: Usage(8, 0), 90: Usage(9, 0)}}
    budget = read_budget(write_budget(table, '13.0'))
    assert budget == {'a<4, float>': {80: 8, 90: 16}, 'fast': {80: 32, 90: 32}}
    assert complaints(table, budget) == []
    assert complaints({'fast': {90: FAST[90]}, 'a<4, float>': {90: Usage(16, 0)}}, budget) == []  # one architecture


def test_budget_that_is_not_kept():
    budget = {'fast': {80: 24, 90: 32}, 'gone': {80: 8}}
    table = {'fast': FAST, 'slow': {80: Usage(255, 32)}}
    assert complaints(table, budget) == [
        'fast on sm_80 takes 30 registers, its budget is 24',
        'slow on sm_80 spills 32 bytes',
        'slow on sm_80 has no budget',
        'gone has a budget, but is not compiled',
    ]


def test_budget_that_cannot_be_read():
    with pytest.raises(ValueError, match="expected 2 numbers and a kernel, got '16 fast'"):
        read_budget('sm_80 sm_90 kernel\n16 fast')


def test_the_budget_checked_in():
    budget = read_budget(BUDGET.read_text())
    assert {name.split('<')[0] for name in budget} >= {'conv_forward', 'conv_backward'}
    assert all(list(usages) == [75, 80, 86, 89, 90, 100, 120] for usages in budget.values())
    assert all(0 < registers <= 255 for usages in budget.values() for registers in usages.values())
