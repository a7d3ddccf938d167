"""The compiled convolution along walks against PyTorch's in float64."""

import pytest
import torch
from test_kernels.judge import ISAS, TOLERANCE, instruction_set

from mmvim.ops import walk_conv, walks
from mmvim.ops.testing import assert_same, results

WALKS = {
    'one': walks.rows(33),
    'bidirectional': walks.bidirectional(70),
    'blocks': walks.bidirectional(300),
    'cross': walks.cross(9, 20),
    'windows': walks.local(5, 7, ('h', 'v_flip', 'w2', 'w7_flip')),
    'strided': walks.strided(5, 7),
    'snake': walks.snake(5, 7),
}


@pytest.fixture(params=ISAS)
def isa(request):
    with instruction_set(request.param) as taken:
        assert taken == request.param
        yield


def conv_case(walk, channels=20, taps=4, batch=2, bias=True, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    both = torch.randn(batch, walk.num_tokens, 2 * channels, generator=generator, dtype=torch.float64).to(dtype)
    return {
        'x': both[..., :channels],  # as one half of in_proj's output
        'weight': torch.randn(walk.num_walks, channels, taps, generator=generator, dtype=state),
        'bias': torch.randn(walk.num_walks, channels, generator=generator, dtype=state) if bias else None,
        'walks': walk,
    }


def reference(x, weight, bias, walks, activation, order):
    """Each walk by itself: gather, convolve, activate, scatter."""
    outputs = []
    for tokens, w, k in zip(walks.tokens(), weight, range(walks.num_walks), strict=True):
        here = (tokens >= 0)[None, :, None]
        steps = torch.nn.functional.pad((x[:, tokens.clamp(min=0)] * here).mT, (w.shape[-1] - 1, 0))
        y = torch.nn.functional.conv1d(steps, w[:, None], None if bias is None else bias[k], groups=len(w)).mT
        y = torch.nn.functional.silu(y) if activation else y
        if order == 'token':
            index = tokens.where(tokens >= 0, walks.num_tokens)
            y = y.new_zeros(len(x), walks.num_tokens + 1, x.shape[-1]).index_add(1, index, y * here)[:, :-1]
        outputs.append(y)
    return torch.stack(outputs, 1)


def judge(case, activation='silu', order='token'):
    doubled = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in case.items() if k != 'walks'}
    want = results(reference, {**doubled, 'walks': case['walks']}, activation=activation, order=order)
    got = results(walk_conv, case, activation=activation, order=order, backend='cpu')
    assert_same(got, want, TOLERANCE[case['x'].dtype], gradients=3)


@pytest.mark.parametrize('order', ['token', 'step'])
@pytest.mark.parametrize('name', WALKS)
def test_walks(name, order, isa):
    judge(conv_case(WALKS[name]), order=order)
    judge(conv_case(WALKS[name], bias=False), activation=None, order=order)


@pytest.mark.parametrize('taps', [1, 2, 3, 4, 5, 8, 32])
def test_taps(taps, isa):
    judge(conv_case(walks.bidirectional(70), taps=taps))


@pytest.mark.parametrize('length', [1, 2, 3, 31, 32, 33, 129])
def test_lengths(length, isa):
    judge(conv_case(walks.bidirectional(length)))


@pytest.mark.parametrize('channels', [1, 7, 16, 24, 100, 384])
def test_channels(channels, isa):
    judge(conv_case(walks.bidirectional(35), channels=channels))


@pytest.mark.parametrize('dtype', TOLERANCE)
def test_dtypes(dtype, isa):
    judge(conv_case(walks.cross(5, 7), dtype=dtype))


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_what_is_not_finite_reaches_the_next_taps_only(value, isa):
    case = conv_case(walks.bidirectional(70))
    clean = walk_conv(**case, activation='silu', backend='cpu')
    case['x'][:, 40] = value
    y = walk_conv(**case, activation='silu', backend='cpu')
    touched = torch.zeros(2, 70, dtype=torch.bool)
    touched[0, 40:44] = touched[1, 37:41] = True
    assert torch.equal(y[:, ~touched], clean[:, ~touched])
    if torch.tensor(value).isnan():
        assert y[:, touched].isnan().all()


def test_too_many_taps():
    with pytest.raises(RuntimeError, match='1 to 32 taps, got 33'):
        walk_conv(**conv_case(walks.rows(5), taps=33), activation='silu', backend='cpu')
