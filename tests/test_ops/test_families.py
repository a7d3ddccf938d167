"""The one idea: every model family is a set of walks.

Vim's mixer and VMamba's SS2D are compared with outputs and gradients of the official code, the others with plain loops
that follow the papers' own descriptions: tokens are padded, reordered, scanned as a sequence and put back.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fill import fill_tensor, filled_state_dict
from golden import FOLDER, Golden
from torch import Tensor

from mmvim.models.backbones.vim_mixer import BidirectionalMixer
from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.testing import BACKENDS, relative_error


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', request.param)
    return request.param


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


# Vim ------------------------------------------------------------------------------------------------------------------

# Ours: the official names of the forward and the backward direction, or the one that both share.
VIM_NAMES = {
    'in_proj.weight': ('in_proj.weight',),
    'conv1d_weight': ('conv1d.weight', 'conv1d_b.weight'),
    'conv1d_bias': ('conv1d.bias', 'conv1d_b.bias'),
    'x_proj_weight': ('x_proj.weight', 'x_proj_b.weight'),
    'dt_projs_weight': ('dt_proj.weight', 'dt_proj_b.weight'),
    'dt_projs_bias': ('dt_proj.bias', 'dt_proj_b.bias'),
    'A_logs': ('A_log', 'A_b_log'),
    'Ds': ('D', 'D_b'),
    'out_proj.weight': ('out_proj.weight',),
}


def test_vim_mixer_equals_the_official_one(backend):
    golden = Golden('vim_tiny_mixer')
    mixer = BidirectionalMixer(192)
    parameters = dict(mixer.named_parameters())
    assert parameters.keys() == VIM_NAMES.keys()
    for ours, officials in VIM_NAMES.items():
        for index, official in enumerate(officials):
            target = parameters[ours].data[index] if len(officials) == 2 else parameters[ours].data
            shape = golden.info['arrays'][f'grad.{official}']['full']['shape']
            target.copy_(fill_tensor(f'layers.0.mixer.{official}', shape).view_as(target))
    x = normal(golden.info['B'], golden.info['L'], 192, seed=golden.info['seed']).float().requires_grad_()
    y = mixer(x)
    golden.assert_close('out', y, 5e-5)
    y.square().sum().backward()
    golden.assert_close('grad_input', x.grad, 2e-4)
    for ours, officials in VIM_NAMES.items():
        for index, official in enumerate(officials):
            gradient = parameters[ours].grad[index] if len(officials) == 2 else parameters[ours].grad
            shape = golden.info['arrays'][f'grad.{official}']['full']['shape']
            golden.assert_close(f'grad.{official}', gradient.view(shape), 2e-4)


# VMamba ---------------------------------------------------------------------------------------------------------------


def ss2d(p: dict[str, Tensor], x: Tensor, gated: bool) -> Tensor:
    """VMamba's mixer on channel-last maps (B, H, W, C); v0 is gated, v05_noz is not."""
    num_walks, channels, rank = p['dt_projs_weight'].shape
    d_state = p['A_logs'].shape[-1]
    x = x @ p['in_proj.weight'].t()
    x, z = x.chunk(2, -1) if gated else (x, None)
    x = F.conv2d(x.permute(0, 3, 1, 2), p['conv2d.weight'], p.get('conv2d.bias'), padding=1, groups=channels)
    height, width = x.shape[-2:]
    u = F.silu(x).flatten(2).mT  # (B, L, D), channel-first in memory
    delta, B, C = (u.unsqueeze(1) @ p['x_proj_weight'].mT).split([rank, d_state, d_state], -1)
    y = scan(
        u, delta, -p['A_logs'].exp().view(num_walks, channels, d_state), B, C, p['Ds'].view(num_walks, channels),
        walks=walks.cross(height, width), delta_bias=p['dt_projs_bias'], dt_weight=p['dt_projs_weight'],
    )  # fmt: skip
    y = F.layer_norm(y, (channels,), p['out_norm.weight'], p['out_norm.bias']).view(len(y), height, width, channels)
    return (y if z is None else y * F.silu(z)) @ p['out_proj.weight'].t()


@pytest.mark.parametrize('name', ['v05_noz', 'v0'])
def test_vmamba_ss2d_equals_the_official_one(name, backend):
    about = json.loads((FOLDER / f'vmamba_ss2d_{name}.json').read_text())
    with np.load(FOLDER / f'vmamba_ss2d_{name}.npz') as arrays:
        stored = {key: torch.from_numpy(value) for key, value in arrays.items()}
    parameters = filled_state_dict(about['state_dict_shapes'])
    for key, change in about['rescale'].items():
        parameters[key] = parameters[key] * change['mul'] + change['add']
    for parameter in parameters.values():
        parameter.requires_grad_()
    x = normal(*about['input']['shape'], seed=about['input']['seed']).float().requires_grad_()
    channel_first = about['input']['layout'] == 'NCHW'
    y = ss2d(parameters, x.permute(0, 2, 3, 1) if channel_first else x, gated=name == 'v0')
    y = y.permute(0, 3, 1, 2) if channel_first else y
    y.square().sum().backward()

    results = {'out': y, 'grad_input': x.grad, **{f'grad.{key}': p.grad for key, p in parameters.items()}}
    assert results.keys() == stored.keys()
    for key, value in results.items():
        full = about['arrays'][key]
        sample = value.detach()[tuple(slice(None, None, step) for step in full['stride'])]
        assert relative_error(sample, stored[key]) <= (1e-5 if key == 'out' else 2e-5), key
        assert value.double().square().sum().item() == pytest.approx(full['sum_sq'], rel=1e-4), key


# The others, against loops --------------------------------------------------------------------------------------------


def sequence_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """One selective scan of a sequence (B, S, D), D u included."""
    h, ys = 0, []
    for t in range(u.shape[1]):
        d = F.softplus(delta[:, t] + bias).unsqueeze(-1)
        h = torch.exp(d * A) * h + d * u[:, t].unsqueeze(-1) * B[:, t].unsqueeze(1)
        ys.append((h * C[:, t].unsqueeze(1)).sum(-1) + D * u[:, t])
    return torch.stack(ys, 1)


def parameters(count: int, channels: int = 6, d_state: int = 4, rank: int = 2) -> dict[str, Tensor]:
    return {
        'x_proj': normal(count, rank + 2 * d_state, channels, seed=1) / channels**0.5,
        'dt': normal(count, channels, rank, seed=2),
        'bias': normal(count, channels, seed=3),
        'A': -normal(count, channels, d_state, seed=4).exp(),
        'D': normal(count, channels, seed=5),
    }


def project(p: dict[str, Tensor], x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """delta (before its bias), B and C of direction k from tokens (B, S, D)."""
    rank, d_state = p['dt'].shape[-1], p['A'].shape[-1]
    low, B, C = (x @ p['x_proj'][k].t()).split([rank, d_state, d_state], -1)
    return low @ p['dt'][k].t(), B, C


def project_all(p: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Low-rank delta, B and C of all directions, (B, K, S, .), as slices of one product."""
    rank, d_state = p['dt'].shape[-1], p['A'].shape[-1]
    x = x if x.dim() == 4 else x.unsqueeze(1)
    return (x @ p['x_proj'].mT).split([rank, d_state, d_state], -1)


def windowed(grid: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, H, W, D) padded with zeros to whole windows and reordered into a sequence of windows (B, S, D)."""
    batch, height, width, channels = grid.shape
    grid = F.pad(grid, (0, 0, 0, -width % size, 0, -height % size))
    padded = grid.shape[1:3]
    rows, columns = padded[0] // size, padded[1] // size
    grid = grid.view(batch, rows, size, columns, size, channels).transpose(2, 3)
    return grid.reshape(batch, -1, channels), padded


def unwindowed(sequence: Tensor, size: int, padded: tuple[int, int], height: int, width: int) -> Tensor:
    batch, _, channels = sequence.shape
    grid = sequence.view(batch, padded[0] // size, padded[1] // size, size, size, channels).transpose(2, 3)
    return grid.reshape(batch, *padded, channels)[:, :height, :width]


def reorder(grid: Tensor, direction: str) -> Tensor:
    name, _, flip = direction.partition('_')
    if name == 'h':
        sequence = grid.flatten(1, 2)
    elif name == 'v':
        sequence = grid.transpose(1, 2).flatten(1, 2)
    else:
        sequence = windowed(grid, int(name[1:]))[0]
    return sequence.flip(1) if flip else sequence


def put_back(sequence: Tensor, direction: str, height: int, width: int) -> Tensor:
    """The inverse of :func:`reorder`: (B, S, D) to tokens (B, L, D); what lies on the padding is cut off."""
    name, _, flip = direction.partition('_')
    sequence = sequence.flip(1) if flip else sequence
    if name == 'v':
        sequence = sequence.view(len(sequence), width, height, -1).transpose(1, 2)
    elif name != 'h':
        size = int(name[1:])
        padded = (height + -height % size, width + -width % size)
        sequence = unwindowed(sequence, size, padded, height, width)
    return sequence.reshape(len(sequence), height * width, -1)


DIRECTIONS = [('h', 'v_flip', 'w2', 'w7_flip'), ('v', 'h_flip', 'w2_flip', 'w7')]


@pytest.mark.parametrize('directions', DIRECTIONS)
def test_local_vmamba(directions, backend):
    """Zeros of the padding are scanned: they bring nothing in, but the state decays. Directions stay apart."""
    height, width = 5, 9
    p, grid = parameters(4), normal(2, height, width, 6)
    want = []
    for k, direction in enumerate(directions):
        x = reorder(grid, direction)
        y = sequence_scan(x, *insert(project(p, x, k), p, k))
        want.append(put_back(y, direction, height, width))
    x = grid.flatten(1, 2)
    delta, B, C = project_all(p, x)
    got = scan(
        x, delta, p['A'], B, C, p['D'], walks=walks.local(height, width, directions), delta_bias=p['bias'],
        dt_weight=p['dt'], merge='none',
    )  # fmt: skip
    assert relative_error(got, torch.stack(want, 1)) < 1e-12


def insert(projected: tuple[Tensor, Tensor, Tensor], p: dict[str, Tensor], k: int) -> tuple[Tensor, ...]:
    """(delta, B, C) as the arguments of ``sequence_scan`` behind u."""
    delta, B, C = projected
    return delta, p['A'][k], B, C, p['D'][k], p['bias'][k]


@pytest.mark.parametrize('directions', DIRECTIONS)
def test_local_vim(directions, backend):
    """x and the gate are reordered together, so the convolution runs over the padding, and its bias moves the state."""
    height, width = 4, 9
    p, grid, gate = parameters(4), normal(2, height, width, 6), normal(2, height, width, 6, seed=8)
    weight, bias = normal(4, 6, 4, seed=6), normal(4, 6, seed=7)
    want = []
    for k, direction in enumerate(directions):
        x, z = reorder(grid, direction), reorder(gate, direction)
        x = F.conv1d(x.mT, weight[k].unsqueeze(1), bias[k], padding=3, groups=6)[..., : x.shape[1]].mT
        x = F.silu(x)
        y = sequence_scan(x, *insert(project(p, x, k), p, k)) * F.silu(z)
        want.append(put_back(y, direction, height, width))
    walk = walks.local(height, width, directions)
    u = walk_conv(grid.flatten(1, 2), weight, bias, walks=walk, order='step')
    delta, B, C = project_all(p, u)
    got = scan(
        u, delta, p['A'], B, C, p['D'], walks=walk, z=gate.flatten(1, 2), delta_bias=p['bias'], dt_weight=p['dt'],
        u_order='step', param_order='step', merge='none',
    )  # fmt: skip
    assert relative_error(got, torch.stack(want, 1)) < 1e-12


@pytest.mark.parametrize(('height', 'width'), [(4, 6), (5, 7), (4, 1)])
def test_efficient_vmamba(height, width, backend):
    """Every token is seen by one of four scans over every second row and column, the odd ones column by column."""
    p, grid = parameters(4), normal(2, height, width, 6)
    padded = F.pad(grid, (0, 0, 0, width % 2, 0, height % 2))
    rows, columns = padded.shape[1] // 2, padded.shape[2] // 2
    want = torch.zeros_like(padded)
    for k, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        part = padded[:, row::2, column::2]
        x = (part.transpose(1, 2) if k % 2 else part).flatten(1, 2)
        y = sequence_scan(x, *insert(project(p, x, k), p, k))
        y = y.view(2, columns, rows, 6).transpose(1, 2) if k % 2 else y.view(2, rows, columns, 6)
        want[:, row::2, column::2] = y
    want = want[:, :height, :width].flatten(1, 2)

    walk, x = walks.strided(height, width), grid.flatten(1, 2)
    steps = walk.tokens()
    x_steps = torch.stack([x[:, order.clamp(min=0)] * (order >= 0).view(1, -1, 1) for order in steps], 1)
    for u, order in ((x, 'token'), (x_steps, 'step')):
        delta, B, C = project_all(p, u)
        got = scan(
            x, delta, p['A'], B, C, p['D'], walks=walk, delta_bias=p['bias'], dt_weight=p['dt'], param_order=order
        )
        assert relative_error(got, want) < 1e-12


def snake(height: int, width: int) -> list[int]:
    """Along rows, turning at the end of each."""
    y, x, step, order = 0, 0, 1, []
    while y < height:
        order.append(y * width + x)
        if 0 <= x + step < width:
            x += step
        else:
            y, step = y + 1, -step
    return order


@pytest.mark.parametrize(('height', 'width'), [(4, 6), (5, 3), (1, 5)])
def test_plain_mamba(height, width, backend):
    """Only x follows the snake; step s takes delta, B and C of raster token s. All but the direction is shared."""
    p, x, gate = parameters(1), normal(2, height * width, 6), normal(2, height * width, 6, seed=8)
    direction_B = normal(4, height * width, 4, seed=9)
    by_rows = snake(height, width)
    by_columns = [(t % height) * width + t // height for t in snake(width, height)]
    delta, B, C = project(p, x, 0)
    want = 0
    for k, order in enumerate([by_rows, by_rows[::-1], by_columns, by_columns[::-1]]):
        y = sequence_scan(x[:, order], delta, p['A'][0], B + direction_B[k], C, p['D'][0], p['bias'][0])
        want = want + torch.zeros_like(y).index_copy(1, torch.tensor(order), y)
    got = scan(
        x, delta, p['A'], B.unsqueeze(1) + direction_B, C, p['D'], walks=walks.snake(height, width), z=gate,
        delta_bias=p['bias'], param_order='step',
    )  # fmt: skip
    assert relative_error(got, want * F.silu(gate)) < 1e-12


def test_vim_is_two_scans_of_flipped_sequences(backend):
    p, u, gate = parameters(2), normal(2, 2, 37, 6), normal(2, 37, 6, seed=8)
    forward = sequence_scan(u[:, 0], *insert(project(p, u[:, 0], 0), p, 0))
    backward = sequence_scan(u[:, 1].flip(1), *insert(project(p, u[:, 1].flip(1), 1), p, 1)).flip(1)
    delta, B, C = project_all(p, u)
    got = scan(
        u, delta, p['A'], B, C, p['D'], walks=walks.bidirectional(37), z=gate, delta_bias=p['bias'],
        dt_weight=p['dt'], scale=0.5,
    )  # fmt: skip
    assert relative_error(got, (forward + backward) * F.silu(gate) / 2) < 1e-12


def test_a_wrong_order_would_be_seen():
    p, x = parameters(4), normal(2, 45, 6)
    delta, B, C = project_all(p, x)
    right, wrong = (
        scan(x, delta, p['A'], B, C, p['D'], walks=walk, delta_bias=p['bias'], dt_weight=p['dt'])
        for walk in (walks.cross(5, 9), walks.Walks(5, 9, (1, 0, 2, 3)))
    )
    assert relative_error(wrong, right) > 1e-2
