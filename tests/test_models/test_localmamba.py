"""LocalVim and LocalVMamba: sizes, directions of each block, slow references, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.models import LocalVim, LocalVMamba
from mmvim.models.backbones import localvim_mixer, vmamba_mixer
from mmvim.models.backbones.localvim_mixer import LocalMixer
from mmvim.models.backbones.localvmamba_mixer import LocalSS2D
from mmvim.models.layers import DirectionAttention, read_columns_as_rows, resolve_directions
from mmvim.ops import Walks, walks
from mmvim.ops.reference import scan_reference

PATCHES = {'embed_dims': 32, 'depth': 3, 'patch_size': 16, 'patch_stride': 16, 'd_state': 4}
STAGES = {'embed_dims': 16, 'depths': (1, 2), 'd_state': 4}
FOUR = ('h', 'v_flip', 'w2', 'w3_flip')


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ('family', 'arch', 'head', 'parameters'),
    [
        (LocalVim, 'tiny', 192, 7_994_152),
        (LocalVim, 'small', 384, 27_783_784),
        (LocalVMamba, 'tiny', 768, 25_527_160),
        (LocalVMamba, 'small', 768, 49_748_536),
    ],
)
def test_published_sizes(family: type, arch: str, head: int, parameters: int) -> None:
    """With the classifier: LocalVim's norm of the last block is that of LocalVMamba's last output."""
    options = {'final_norm': True, 'out_norm': False} if family is LocalVim else {'out_indices': 3}
    with torch.device('meta'):
        backbone = family(arch, **options)
    assert sum(p.numel() for p in backbone.parameters()) + 1000 * (head + 1) == parameters
    assert {len(names) for names in backbone.directions} == {4}


def test_directions_of_the_variants() -> None:
    """A few, at the places that the lists are read by: order counts, each has parameters of its own."""
    assert LocalVim('small').directions == LocalVim('tiny').directions
    tiny = LocalVMamba('tiny')
    assert tiny.directions[7] == ('h', 'h_flip', 'v', 'v_flip') and len(tiny.directions) == 15
    assert tiny.layers[2].blocks[3].op.directions == tiny.directions[7]
    small = LocalVMamba('small').directions
    assert small[32] == ('h', 'v', 'w7', 'w7_flip') and len(small) == 33
    assert LocalVim('tiny').layers[19].mixer.directions == ('v', 'v_flip', 'w2', 'w2_flip')


def slow_scan(u: Tensor, *args: Tensor, walks: Walks, out_dtype: torch.dtype | None = None, **options) -> Tensor:
    return scan_reference(u, *args, walks=walks, **options)[0]


def slow_conv(x: Tensor, weight: Tensor, bias: Tensor, *, walks: Walks, order: str) -> Tensor:
    """A causal convolution of the tokens of each walk, in walking order, zeros where there is none."""
    ys = []
    for tokens, taps, offset in zip(walks.tokens(), weight, bias, strict=True):
        steps = torch.stack([x[:, t] if t >= 0 else torch.zeros_like(x[:, 0]) for t in tokens], 1)
        steps = F.pad(steps, (0, 0, taps.shape[1] - 1, 0))
        windows = [steps[:, s : s + taps.shape[1]] for s in range(len(tokens))]
        ys.append(torch.stack([F.silu((w * taps.t()).sum(1) + offset) for w in windows], 1))
    return torch.stack(ys, 1)


def outputs_and_gradients(module: torch.nn.Module, x: Tensor, *others) -> list[Tensor]:
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x, *others)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize('class_token', [False, True])
@pytest.mark.parametrize('names', [FOUR, ('v', 'h_flip')])
def test_localvim_mixer(names: tuple[str, ...], class_token: bool, monkeypatch) -> None:
    mixer = LocalMixer(8, names, class_token, d_state=3).double()
    x = torch.randn(2, 15 + class_token, 8, dtype=torch.double)
    found = outputs_and_gradients(mixer, x, (3, 5))
    monkeypatch.setattr(localvim_mixer, 'scan', slow_scan)
    monkeypatch.setattr(localvim_mixer, 'walk_conv', slow_conv)
    torch.testing.assert_close(found, outputs_and_gradients(mixer, x, (3, 5)))


@pytest.mark.parametrize('names', [FOUR, ('v', 'h_flip')])
def test_localvmamba_mixer(names: tuple[str, ...], monkeypatch) -> None:
    mixer = LocalSS2D(8, names, ratio=2.0, d_state=3, init='random').double()
    x = torch.randn(2, 3, 5, 8, dtype=torch.double)
    found = outputs_and_gradients(mixer, x)
    monkeypatch.setattr(vmamba_mixer, 'scan', slow_scan)
    torch.testing.assert_close(found, outputs_and_gradients(mixer, x))


def test_sum_of_directions_is_weighted() -> None:
    attention, y = DirectionAttention(16), torch.randn(2, 3, 7, 16)
    expected = 0
    for direction in y.unbind(1):
        mean = F.layer_norm(direction, (16,)).mean(1)
        hidden = F.gelu(mean @ attention.global_reduce.weight.t() + attention.global_reduce.bias)
        gate = (hidden @ attention.channel_select.weight.t() + attention.channel_select.bias).sigmoid()
        expected = expected + direction * gate[:, None]
    torch.testing.assert_close(attention(y), expected)


def test_columns_read_as_rows() -> None:
    """Tokens 0 1 2 above 3 4 5: the walk along the columns is 0 3 1 4 2 5."""
    y = torch.arange(6.0).view(1, 1, 6, 1).expand(-1, 3, -1, -1)
    found = read_columns_as_rows(y, ('h', 'v', 'v_flip'), (2, 3)).flatten(2).tolist()[0]
    # In two rows of three that is 0 3 1 / 4 2 5, whose columns one after the other are what is taken for tokens.
    assert found == [[0, 1, 2, 3, 4, 5], *2 * [[0, 4, 3, 2, 1, 5]]]
    square = torch.randn(1, 2, 9, 4)
    assert torch.equal(read_columns_as_rows(square, ('v', 'v_flip'), (3, 3)), square)


@pytest.mark.parametrize('family', [LocalVim, LocalVMamba])
def test_legacy_matters_on_maps_that_are_not_square_alone(family: type) -> None:
    arch = PATCHES if family is LocalVim else STAGES
    options = {'out_indices': 1, 'directions': ('h', 'v', 'w2')}
    ours, theirs = family(arch, **options).eval(), family(arch, legacy_reverse=True, **options).eval()
    theirs.load_state_dict(ours.state_dict())
    square, other = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(ours(square), theirs(square))
    assert not torch.allclose(ours(other)[0], theirs(other)[0], atol=1e-3)


def test_class_token_stands_in_the_middle_of_every_walk() -> None:
    walk = walks.local(2, 3, ('h', 'w2_flip'), class_token=True)
    # Patches 0 1 2 above 4 5 6, token 3; windows of 2 x 2 are 0 1 4 5 and 2 - 6 -.
    assert walk.tokens().tolist() == [[0, 1, 2, 3, 4, 5, 6, -1, -1], [-1, 6, -1, 3, 2, 5, 4, 1, 0]]
    assert (walk.height, walk.width) == (1, 7)


def test_rows_and_columns_need_no_table() -> None:
    walk = walks.local(3, 4, ('v_flip', 'h'))
    assert walk.table is None and walk.kinds == (walks.COLUMN_REVERSED, walks.ROW)
    assert torch.equal(walk.tokens(), walks.local(3, 4, ('v_flip', 'h', 'w2')).tokens()[:2, :12])


@pytest.mark.parametrize(('height', 'width'), [(3, 5), (1, 1)])
def test_small_windows_may_be_larger_than_the_map(height: int, width: int) -> None:
    assert walks.local(height, width, ('w7',)).num_steps == 49


@pytest.mark.parametrize('image', [(64, 96), (17, 16)])
def test_windows_larger_than_the_map(image: tuple[int, int]) -> None:
    backbone = LocalVim(PATCHES, directions=('h', 'w17'))
    backbone(torch.rand(1, 3, 16, 17 * 16))
    rows, columns = (-(-side // 16) for side in image)
    message = rf"direction 'w17': a window of 17 x 17 is larger than the map of {rows} x {columns} tokens"
    with pytest.raises(ValueError, match=message):
        backbone(torch.rand(1, 3, *image))


@pytest.mark.parametrize(('family', 'arch', 'depth'), [(LocalVim, PATCHES, 3), (LocalVMamba, STAGES, 3)])
def test_bad_directions(family: type, arch: dict, depth: int) -> None:
    known = "expected 'h', 'v' or 'wK' .a window of K x K., or one . '_flip': h, v, h_flip, v_flip, and w2, w2_flip, w7"
    for name in ('x', 'w', 'w0', 'hflip', 'w2_flop', 'w²'):
        with pytest.raises(ValueError, match=f"direction '{name}': {known}"):
            family(arch, out_indices=0, directions=[('h', name)] * depth)
    for given, got in (([('h',)] * 2, 'those of 2'), ([('h',)] * 21, 'those of 21'), ('h', "'h'")):
        with pytest.raises(ValueError, match=f'expected a list of names for each of the {depth} blocks, got {got}'):
            family(arch, out_indices=0, directions=given)
    for given in ([], [('h',), (), ('v',)]):
        with pytest.raises(ValueError, match=r'directions: expected (at least one|a list of names for each of the)'):
            family(arch, out_indices=0, directions=given)


def test_one_list_for_all_blocks() -> None:
    assert resolve_directions(['h', 'w2'], 3) == resolve_directions([('h', 'w2')] * 3, 3)
    arch = {key: value for key, value in PATCHES.items() if key != 'directions'}
    assert LocalVim(arch).directions == 3 * (('h', 'h_flip', 'w2', 'w2_flip'),)
    assert LocalVim({**arch, 'directions': [['v']] * 3}).directions == 3 * (('v',),)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'norm': 'batch'}, "norm='batch': expected one of 'rms', 'layer'"),
        ({'feature': 'both'}, "feature='both': expected one of"),
        ({'out_type': 'cls_token', 'with_cls_token': False}, "out_type='cls_token' needs with_cls_token=True"),
        ({'with_cls_token': True, 'rope': True}, 'rope=True knows no position for a class token'),
        ({'with_cls_token': True, 'legacy_reverse': True}, 'legacy_reverse=True is for maps without a class token'),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalVim(PATCHES, **options)


def test_built_without_values() -> None:
    walks.local.cache_clear()
    with torch.device('meta'):
        LocalVim(PATCHES, directions=('w2',))(torch.rand(1, 3, 48, 32))
    assert walks.local(3, 2, ('w2',)).table.tolist() == [[0, 1, 2, 3, 4, 5, -1, -1]]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('family', [LocalVim, LocalVMamba])
def test_autocast_stays_close(family: type, dtype: torch.dtype) -> None:
    backbone = family(PATCHES if family is LocalVim else STAGES, out_indices=1).eval()
    x = torch.rand(1, 3, 64, 80)
    with torch.no_grad(), torch.autocast('cpu', dtype):
        (half,) = backbone(x)
    (full,) = backbone(x)
    assert half.dtype == torch.float32 and (half - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize('names', [('h', 'v_flip'), ('h', 'w2')])
@pytest.mark.parametrize('family', [LocalVim, LocalVMamba])
def test_compiled_exported_and_traced(family: type, names: tuple[str, ...]) -> None:
    """A table of windows breaks the graph of torch.compile where it is built; the others do not mind it."""
    backbone = family(PATCHES if family is LocalVim else STAGES, out_indices=1, directions=names).eval()
    x = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        expected = backbone(x)
        compiled = torch.compile(backbone, backend='eager', fullgraph='w2' not in names)
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(torch.export.export(backbone, (x,)).module()(x), expected)
        torch.testing.assert_close(torch.jit.trace(backbone, x)(x + 1), backbone(x + 1))
