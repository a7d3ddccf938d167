"""The causal convolution along walks against a loop."""

import pytest
import torch
import torch.nn.functional as F

from mmvim.ops import walk_conv, walks
from mmvim.ops.testing import BACKENDS, WIDE, assert_same, results

WALKS = {
    'bidirectional': walks.bidirectional(35),
    'cross': walks.cross(5, 7),
    'windows': walks.local(5, 7, ('h', 'v_flip', 'w2', 'w7_flip')),
    'strided': walks.strided(5, 7),
}


def loop(x, weight, bias, *, walks, activation, order):
    """Step by step: sum over taps of the inputs so far, zero in front of the first step and where there is no token."""
    steps = walks.tokens().tolist()
    out = x.new_zeros(len(x), walks.num_walks, walks.num_steps if order == 'step' else walks.num_tokens, x.shape[-1])
    width = weight.shape[-1]
    for k, tokens in enumerate(steps):
        for s, token in enumerate(tokens):
            y = x.new_zeros(len(x), x.shape[-1]) if bias is None else bias[k].expand(len(x), -1)
            for j in range(width):
                before = s - (width - 1 - j)
                if before >= 0 and tokens[before] >= 0:
                    y = y + weight[k, :, j] * x[:, tokens[before]]
            y = F.silu(y) if activation else y
            if order == 'step' or token >= 0:
                place = torch.zeros_like(out)
                place[:, k, s if order == 'step' else token] = 1
                out = out + place * y[:, None, None]
    return out


def conv_case(walk, width=4, bias=True, channels=3, dtype=WIDE, **options):
    generator = torch.Generator().manual_seed(width)
    weights = torch.promote_types(dtype, torch.float32)
    return {
        'x': torch.randn(2, walk.num_tokens, channels, generator=generator, dtype=torch.float64).to(dtype),
        'weight': torch.randn(walk.num_walks, channels, width, generator=generator, dtype=weights),
        'bias': torch.randn(walk.num_walks, channels, generator=generator, dtype=weights) if bias else None,
        'walks': walk,
        'activation': 'silu',
        'order': 'token',
        **options,
    }


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', WALKS)
@pytest.mark.parametrize('order', ['token', 'step'])
@pytest.mark.parametrize(('activation', 'bias', 'width'), [('silu', True, 4), (None, False, 3), ('silu', False, 1)])
def test_results_and_gradients(activation, bias, width, order, name, backend):
    case = conv_case(WALKS[name], width, bias, activation=activation, order=order)
    assert_same(results(walk_conv, case, backend=backend), results(loop, case), 1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('length', [1, 2, 3, 31, 32, 33, 65])
@pytest.mark.parametrize('channels', [1, 8, 19])
def test_sequences_are_conv1d_forward_and_on_the_flipped(channels, length, backend):
    case = conv_case(walks.bidirectional(length), channels=channels)

    def conv1d(x, weight, bias, **_):
        ys = []
        for k, sequence in enumerate((x, x.flip(1))):
            y = F.conv1d(sequence.transpose(1, 2), weight[k].unsqueeze(1), bias[k], padding=3, groups=channels)
            ys.append(F.silu(y[..., :length]).transpose(1, 2))
        return torch.stack([ys[0], ys[1].flip(1)], 1)

    assert_same(results(walk_conv, case, backend=backend), results(conv1d, case), 1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)], ids=str
)
def test_dtypes(dtype, tolerance, backend):
    case = conv_case(WALKS['cross'], channels=8, dtype=dtype)
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    with torch.autocast('cpu', torch.bfloat16):  # changes nothing: the dtype of x decides
        got = results(walk_conv, case, backend=backend)
    assert_same(got, results(walk_conv, exact, backend='torch'), tolerance, gradients=3)
    assert [got[name].dtype for name in ('y', 'dx', 'dweight')] == [dtype, dtype, torch.float32]


@pytest.mark.parametrize('backend', BACKENDS)
def test_any_layout_in_memory(backend):
    """x is half of the rows that the projection in makes, or channel-first in memory."""
    case = conv_case(WALKS['cross'], channels=4)
    want = results(walk_conv, case, backend=backend)
    for layout in (lambda x: torch.cat([x, x], -1)[..., 4:], lambda x: x.mT.contiguous().mT):
        got = results(lambda x, f=layout, **kwargs: walk_conv(f(x), **kwargs, backend=backend), case)
        assert_same(got, want, 1e-12)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradcheck(backend):
    for walk, order in ((walks.cross(2, 3), 'token'), (walks.strided(3, 3), 'step')):
        case = conv_case(walk, width=3, channels=2)
        tensors = [case[name].requires_grad_() for name in ('x', 'weight', 'bias')]
        assert torch.autograd.gradcheck(
            lambda *t, w=walk, o=order: walk_conv(*t, walks=w, order=o, backend=backend), tensors
        )


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_goes_along_the_walk_only(backend):
    case = conv_case(walks.bidirectional(40), dtype=torch.float32)
    case['x'][0, 20, 1] = float('nan')
    bad = walk_conv(**case, backend=backend).isnan()
    assert bad[0, 0, 20:24, 1].all()
    assert bad[0, 1, 17:21, 1].all()
    assert bad.sum() == 8


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', ['x', 'weight', 'bias'])
@pytest.mark.parametrize('walk', ['cross', 'windows'])
def test_only_asked_gradients_are_computed(walk, name, backend):
    case = conv_case(WALKS[walk])
    want = results(walk_conv, case, backend=backend)[f'd{name}']
    case[name].requires_grad_()
    y = walk_conv(**case, backend=backend)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(weights.to(y.dtype))
    assert [other for other in ('x', 'weight', 'bias') if case[other].grad is not None] == [name]
    assert torch.equal(case[name].grad, want)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('mask', [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_that_are_not_wanted_have_no_elements(mask, backend):
    walk = WALKS['cross']
    case = conv_case(walk)
    op = torch.ops.mmvim.walk_conv_backward if backend == 'cpu' else torch.ops.mmvim.walk_conv_backward_torch
    grad = torch.ones(2, walk.num_walks, walk.num_tokens, 3, dtype=WIDE)
    grads = op(
        grad, case['x'], case['weight'], case['bias'], None, walk.kinds, walk.height, walk.width, True, False, mask
    )
    assert [x.numel() > 0 for x in grads] == list(mask)
