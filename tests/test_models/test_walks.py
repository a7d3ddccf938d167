"""Models are handed their walks: by name, as a list of directions, or as a function of one's own."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.models import Vim, VMamba
from mmvim.models.backbones import vim_mixer, vmamba_mixer
from mmvim.models.backbones.vim_mixer import BidirectionalMixer
from mmvim.models.backbones.vmamba_mixer import SS2D
from mmvim.models.layers import WALKS, resolve_walks
from mmvim.ops import Walks, walks
from mmvim.ops.reference import scan_reference
from mmvim.registry import MODELS

STAGES = {'embed_dims': 16, 'depths': (1, 2)}
PATCHES = {'embed_dims': 32, 'depth': 2, 'patch_size': 16, 'patch_stride': 16, 'd_state': 4}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def diagonal(height: int, width: int) -> Walks:
    """Three walks: along falling diagonals, back, and every other token only."""
    places = sorted((column - row, row * width + column) for row in range(height) for column in range(width))
    order = torch.tensor([token for _, token in places])
    sparse = torch.full_like(order, -1)
    sparse[: len(order[::2])] = order[::2]
    return walks.from_table(torch.stack([order, order.flip(0), sparse]), height, width)


# What the mixers ask for, and the walks over 2 x 3 tokens written down: 0 1 2 above 3 4 5.
ORDERS = {
    'bidirectional': ('bidirectional', [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]),
    'cross': ('cross', [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]),
    'snake': ('snake', [[0, 1, 2, 5, 4, 3], [3, 4, 5, 2, 1, 0], [0, 3, 4, 1, 2, 5], [5, 2, 1, 4, 3, 0]]),
    'strided': ('strided', [[0, 2], [3, 5], [1, -1], [4, -1]]),
    'directions': (['h', 'w2'], [[0, 1, 2, 3, 4, 5, -1, -1], [0, 1, 3, 4, 2, -1, 5, -1]]),
    'a function': (diagonal, [[3, 0, 4, 1, 5, 2], [2, 5, 1, 4, 0, 3], [3, 4, 5, -1, -1, -1]]),
}
EVERY = pytest.mark.parametrize(('given', 'orders'), ORDERS.values(), ids=ORDERS)


def slow_scan(u: Tensor, *args: Tensor, walks: Walks, out_dtype: torch.dtype | None = None, **options) -> Tensor:
    return scan_reference(u, *args, walks=walks, **options)[0]


def slow_conv(x: Tensor, weight: Tensor, bias: Tensor, *, walks: Walks) -> Tensor:
    """A causal convolution of the tokens of each walk, step by step."""
    ys = []
    for order, taps, offset in zip(walks.tokens(), weight, bias, strict=True):
        steps = torch.stack([x[:, t] if t >= 0 else torch.zeros_like(x[:, 0]) for t in order], 1)
        steps = F.pad(steps, (0, 0, taps.shape[1] - 1, 0))
        y = torch.zeros_like(x)
        for s, t in enumerate(order):
            if t >= 0:
                y[:, t] = F.silu((steps[:, s : s + taps.shape[1]] * taps.t()).sum(1) + offset)
        ys.append(y)
    return torch.stack(ys, 1)


def outputs_and_gradients(module: torch.nn.Module, *inputs) -> list[Tensor]:
    module.zero_grad()
    x = inputs[0].clone().requires_grad_()
    outs = module(x, *inputs[1:])
    outs = outs if isinstance(outs, tuple) else (outs,)
    sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outs).backward()
    grads = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    return [*(out.detach() for out in outs), x.grad, *grads]


def written_down(mixer: torch.nn.Module, orders: list[list[int]], monkeypatch) -> torch.nn.Module:
    """The mixer with the slow reference in it, along walks that are written down."""
    for module in (vim_mixer, vmamba_mixer):
        monkeypatch.setattr(module, 'scan', slow_scan)
    monkeypatch.setattr(vim_mixer, 'walk_conv', slow_conv)
    other = copy.deepcopy(mixer)
    other.walks = lambda height, width: walks.from_table(orders, 2, 3)
    return other


@EVERY
@pytest.mark.parametrize('gate', [False, True])
def test_ss2d(given, orders: list[list[int]], gate: bool, monkeypatch) -> None:
    mixer = SS2D(8, ratio=2.0, d_state=3, gate=gate, init='random', walks=given).double()
    assert mixer.A_logs.shape == (len(orders), 16, 3)
    x = torch.randn(2, 2, 3, 8, dtype=torch.double)
    found = outputs_and_gradients(mixer, x)
    torch.testing.assert_close(found, outputs_and_gradients(written_down(mixer, orders, monkeypatch), x))


@EVERY
def test_vim_mixer(given, orders: list[list[int]], monkeypatch) -> None:
    mixer = BidirectionalMixer(8, d_state=3, walks=given).double()
    assert mixer.conv1d_weight.shape == (len(orders), 16, 4) and mixer.scale == 1 / len(orders)
    x = torch.randn(2, 6, 8, dtype=torch.double)
    found = outputs_and_gradients(mixer, x, (2, 3))
    torch.testing.assert_close(found, outputs_and_gradients(written_down(mixer, orders, monkeypatch), x))


@EVERY
@pytest.mark.parametrize(
    'build',
    [
        lambda given: VMamba(STAGES, out_indices=(0, 1), walks=given),
        lambda given: Vim(PATCHES, out_indices=(0, 1), walks=given),
    ],
    ids=['vmamba', 'vim'],
)
def test_backbones(build: Callable, given, orders: list[list[int]], monkeypatch) -> None:
    backbone, x = build(given).double().train(), torch.rand(2, 3, 48, 32, dtype=torch.double)
    found = outputs_and_gradients(backbone, x)
    assert all(tensor.isfinite().all() for tensor in found)
    for module in (vim_mixer, vmamba_mixer):
        monkeypatch.setattr(module, 'scan', slow_scan)
    monkeypatch.setattr(vim_mixer, 'walk_conv', slow_conv)
    torch.testing.assert_close(found, outputs_and_gradients(backbone, x))
    # Names do not depend on the walks; parameters of the scans, and no others, are as many as there are walks.
    default = dict(build('cross').named_parameters())
    per_walk = ('A_logs', 'Ds', 'dt_projs_bias', 'dt_projs_weight', 'x_proj_weight', 'conv1d_weight', 'conv1d_bias')
    assert default.keys() == dict(backbone.named_parameters()).keys()
    for name, parameter in backbone.named_parameters():
        expected = default[name].shape
        expected = (len(orders), *expected[1:]) if name.endswith(per_walk) else expected
        assert parameter.shape == expected, name


@pytest.mark.parametrize('given', ['snake', ['h', 'v_flip', 'w2', 'w3_flip']])
@pytest.mark.parametrize(('kind', 'arch'), [('VMamba', STAGES), ('Vim', PATCHES)])
def test_in_a_config(kind: str, arch: dict, given) -> None:
    backbone = MODELS.build({'type': f'mmvim.{kind}', 'arch': arch, 'walks': given, 'out_indices': 1}).eval()
    x = torch.rand(1, 3, 64, 48)
    expected = backbone(x)
    for copied in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert all(map(torch.equal, copied(x), expected))


def test_a_name_of_ones_own(monkeypatch) -> None:
    monkeypatch.setitem(WALKS, 'diagonal', diagonal)
    assert SS2D(8, walks='diagonal').num_walks == 3


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (
            'snakes',
            "walks='snakes': expected one of 'bidirectional', 'cross', 'rows', 'snake', 'strided', .*nearest: snake$",
        ),
        ('spiral', "walks='spiral': expected one of .*, or a function of height and width$"),
        (['h', 'x'], "direction 'x': expected 'h', 'v' or 'wK'"),
    ],
)
@pytest.mark.parametrize(('family', 'arch'), [(Vim, PATCHES), (VMamba, STAGES)])
def test_unknown_walks(family: type, arch: dict, given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(arch, out_indices=1, walks=given)


def test_a_function_of_something_else() -> None:
    with pytest.raises(TypeError, match=r'a function that gives mmvim\.ops\.Walks, .* gave list'):
        resolve_walks(lambda height, width: [[0, 1, 2]])


def test_what_vim_asks_a_function_for() -> None:
    asked = []

    def spy(height: int, width: int) -> Walks:
        asked.append((height, width))
        return walks.bidirectional(height * width)

    Vim(PATCHES, walks=spy)(torch.rand(1, 3, 64, 48))
    Vim(PATCHES, walks=spy, with_cls_token=True)(torch.rand(1, 3, 64, 48))
    assert set(asked) == {(4, 4), (4, 3), (1, 13)}  # first the one that tells how many walks there are


@pytest.mark.parametrize('given', ['snake', ['h', 'v']])
def test_no_place_for_a_class_token(given) -> None:
    with pytest.raises(ValueError, match='knows no place for a class token: set with_cls_token=False'):
        Vim(PATCHES, walks=given, out_type='cls_token')


def test_built_without_values() -> None:
    walks.snake.cache_clear()
    with torch.device('meta'):
        assert SS2D(8, walks='snake').A_logs.shape[0] == 4
    assert SS2D(8, walks='snake')(torch.rand(1, 4, 4, 8)).isfinite().all()


@pytest.mark.parametrize('given', ['cross', 'snake'])
def test_trained_after_inference(given) -> None:
    """Tables are kept from the first call on, whatever mode it was in."""
    walks.snake.cache_clear()
    mixer, x = SS2D(8, walks=given), torch.rand(1, 5, 3, 8)
    with torch.inference_mode():
        mixer(x)
    mixer(x).sum().backward()
    assert mixer.A_logs.grad is not None


@pytest.mark.parametrize('given', ['bidirectional', 'snake', ['h', 'w2']])
def test_compiled(given) -> None:
    mixer, x = SS2D(8, walks=given), torch.rand(1, 5, 3, 8)
    # A table is built outside of the graph.
    compiled = torch.compile(mixer, backend='eager', fullgraph=given == 'bidirectional')
    torch.testing.assert_close(compiled(x), mixer(x))
