"""Scans and convolutions written out for exporters, against the operators themselves."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.export.decompose import decompositions
from mmvim.export.recurrence import FORMS, LONGEST_CHUNK, chunks
from mmvim.ops import Walks, reference, scan, walk_conv, walks
from mmvim.ops.testing import scan_case

# What runs in PyTorch; linear attention is an operator of ONNX Runtime.
RUNNABLE = sorted(set(FORMS) - {'linear_attention'})
GRID = walks.cross(3, 5)
PADDED = walks.local(3, 5, ('h', 'v_flip', 'w2', 'w3_flip'))


def written_out(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Let ``mmvim.ops`` call what exporters get."""
    table = decompositions(form)
    for name in ('scan', 'walk_conv'):
        operator = getattr(torch.ops.mmvim, name)
        monkeypatch.setattr(torch.ops.mmvim, name, table[operator.default])


@pytest.mark.parametrize('form', RUNNABLE)
@pytest.mark.parametrize('along', [GRID, PADDED, walks.strided(3, 5)], ids=['kinds', 'padded table', 'disjoint table'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'rank': 2, 'z': True, 'scale': 0.5},
        {'merge': 'none', 'D': False, 'delta_bias': False, 'z': True},
        {'u_order': 'step', 'param_order': 'step', 'per_walk': True, 'delta_softplus': False},
        {'per_walk': False, 'own_parameters': False},
    ],
    ids=str,
)
def test_scan(form: str, along: Walks, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    case = scan_case(along, **options, dtype=torch.float32)
    with torch.no_grad():
        expected = scan(**case, backend='torch')
        written_out(monkeypatch, form)
        torch.testing.assert_close(scan(**case), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('steps', 'd_state'), list(product((1, 2, 7, 64, 65, 333, LONGEST_CHUNK**2 + 1), (1, 3))))
def test_chunks_of_chunks(steps: int, d_state: int) -> None:
    """Against the slow reference, at lengths of one chunk, of unequal ones, and of three levels."""
    generator = torch.Generator().manual_seed(0)
    delta, u = (torch.randn(1, 1, steps, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    B, C = (torch.randn(1, 1, steps, d_state, generator=generator, dtype=torch.float64) for _ in range(2))
    A = -torch.rand(1, 2, d_state, generator=generator, dtype=torch.float64)
    expected, _ = reference.scan_reference(u, delta, A, B, C, walks=walks.rows(steps))
    delta = F.softplus(delta)
    torch.testing.assert_close(chunks(delta, delta * u, A, B, C).sum(1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('along', [GRID, PADDED], ids=['kinds', 'padded table'])
@pytest.mark.parametrize(('order', 'activation'), [('token', 'silu'), ('step', None)])
def test_walk_conv(along: Walks, order: str, activation: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, along.num_tokens, 3, generator=generator)
    weight = torch.randn(along.num_walks, 3, 4, generator=generator)
    bias = torch.randn(along.num_walks, 3, generator=generator)
    expected = walk_conv(x, weight, bias, walks=along, order=order, activation=activation, backend='torch')
    written_out(monkeypatch, 'plain')
    found = walk_conv(x, weight, bias, walks=along, order=order, activation=activation)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('height', 'width', 'cells'), [(7, 5, 3), (4, 9, 6), (2, 3, 6), (1, 1, 1)])
def test_pooling_to_cells_of_any_size(height: int, width: int, cells: int) -> None:
    x: Tensor = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    pooled = decompositions('plain')[torch.ops.aten.adaptive_avg_pool2d.default](x, [cells, cells])
    torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x, cells), rtol=1e-5, atol=1e-5)
