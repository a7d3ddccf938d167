"""What users of mmdet, mmseg and mmpretrain expect of MambaVision."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from mmvim.models import MambaVision
from mmvim.models.backbones.deit import Attention
from mmvim.models.backbones.mambavision import MambaVisionStage
from mmvim.models.backbones.mambavision_blocks import WindowMixer
from mmvim.registry import MODELS

SMALL = {'embed_dims': 16, 'stem_dims': 8, 'depths': (1, 1, 3, 2), 'heads': (2, 4)}
THREE = {**SMALL, 'depths': (1, 1, 2), 'heads': (2,)}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_names() -> None:
    assert MODELS.get('MambaVision') is MambaVision is ROOT_MODELS.get('mmvim.MambaVision')


@pytest.mark.parametrize(
    ('alias', 'arch'),
    [('t', 'tiny'), ('T2', 'tiny2'), ('Small', 'small'), ('b', 'base'), ('l', 'large'), ('L2', 'large2')],
)
def test_short_names(alias: str, arch: str) -> None:
    assert MambaVision.arch_zoo[alias.lower()] is MambaVision.arch_zoo[arch]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch 'huge': expected one of t, tiny, t2, tiny2"),
        ({'arch': {'embed_dims': 8, 'depths': (1,)}}, r"missing: \['heads'\]"),
        ({'arch': {**SMALL, 'd_state': 4}}, r"unknown: \['d_state'\]"),
        ({'arch': {**SMALL, 'depths': (1, 0, 1, 1)}}, r'depths \(1, 0, 1, 1\): expected at least one stage, and one'),
        ({'arch': {**SMALL, 'heads': (2,)}}, r'heads \(2,\): expected divisors of the channels \(64, 128\), one for'),
        ({'arch': {**SMALL, 'heads': (2, 3)}}, r'heads \(2, 3\): expected divisors of the channels \(64, 128\)'),
        ({'arch': {**SMALL, 'heads': (0, 2)}}, r'heads \(0, 2\): expected divisors'),
        (
            {'window_sizes': (14,)},
            r'window_sizes \(14,\): expected 2 of at least 1, one for each stage behind the first 2',
        ),
        ({'window_sizes': (14, 0)}, r'window_sizes \(14, 0\): expected 2 of at least 1'),
        ({'walks': 'snakes'}, "walks='snakes': expected one of 'bidirectional'"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MambaVision(**{'arch': SMALL, **options})


@pytest.mark.parametrize('size', [(150, 210), (1, 1), (33, 7), (64, 96)])
@pytest.mark.parametrize('windows', [(14, 7), (3, 2), (1, 1)])
def test_any_size(size: tuple[int, int], windows: tuple[int, int]) -> None:
    """Windows that are larger than the map too."""
    mambavision = MambaVision(SMALL, window_sizes=windows).eval()
    with torch.no_grad():
        outs = mambavision(torch.rand(2, 3, *size))
    grids = [tuple(-(-side // 2**i) for side in size) for i in range(2, 6)]
    assert [tuple(out.shape) for out in outs] == [(2, 16 * 2**i, *grid) for i, grid in enumerate(grids)]
    assert all(out.is_contiguous() and out.isfinite().all() for out in outs)


@pytest.mark.parametrize('depth', [1, 2, 3, 4, 5])
def test_attention_in_the_second_half(depth: int) -> None:
    mambavision = MambaVision({**THREE, 'depths': (1, 1, depth)}, out_indices=2)
    attends = [isinstance(block.mixer, Attention) for block in mambavision.levels[2].blocks]
    assert attends == sorted(attends) and sum(attends) == depth // 2


def plain_mixer(mixer: WindowMixer, x: Tensor) -> Tensor:
    """The formula of the paper, token by token."""
    C = x.shape[-1]
    padded = F.pad(mixer.in_proj(x), (0, 0, 1, 1))
    taps = mixer.conv1d_weight[0]
    x = F.silu(sum(padded[:, i : i + x.shape[1]] * taps[:, i] for i in range(3)))
    u, z = x[..., : C // 2], x[..., C // 2 :]
    delta, B, C_ = (u @ mixer.x_proj_weight[0].T).split([mixer.dt_rank, 8, 8], -1)
    bias = mixer.dt_projs_bias[0]
    delta = F.softplus(F.linear(delta, mixer.dt_projs_weight[0], bias) + bias)
    state, ys = u.new_zeros(len(u), u.shape[-1], 8), []
    for t in range(u.shape[1]):
        d = delta[:, t, :, None]
        state = torch.exp(d * -mixer.A_logs[0].exp()) * state + d * B[:, t, None] * u[:, t, :, None]
        ys.append((state * C_[:, t, None]).sum(-1) + mixer.Ds[0] * u[:, t])
    return mixer.out_proj(torch.cat([torch.stack(ys, 1), z], -1))


def test_mixer_is_what_the_paper_says() -> None:
    mixer = WindowMixer(12, 3).double()
    for parameter in mixer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(4, 9, 12, dtype=torch.double)
    torch.testing.assert_close(mixer(x), plain_mixer(mixer, x))
    ours, theirs = (torch.autograd.grad(f(x).square().sum(), [*mixer.parameters()]) for f in (
        mixer, lambda x: plain_mixer(mixer, x)
    ))  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_other_walks() -> None:
    mambavision = MambaVision(SMALL, walks='cross')
    assert mambavision.levels[2].blocks[0].mixer.A_logs.shape == (4, 32, 8)
    assert mambavision(torch.rand(1, 3, 64, 64))[3].isfinite().all()


def test_windows_do_not_mix() -> None:
    """Every window gives what it gives alone, filled up with zeros at the right and at the bottom."""
    mambavision = MambaVision(THREE, out_indices=2, window_sizes=(4,)).eval()
    stage: MambaVisionStage = mambavision.levels[2]
    x = torch.randn(2, 7, 10, 64)
    got, padded = stage(x), F.pad(x, (0, 0, 0, 2, 0, 1))
    for row in (0, 4):
        for column in (0, 4, 8):
            want = stage(padded[:, row : row + 4, column : column + 4])
            height, width = got[:, row : row + 4, column : column + 4].shape[1:3]
            torch.testing.assert_close(got[:, row : row + 4, column : column + 4], want[:, :height, :width])


def test_statistics_are_kept_once_for_a_batch() -> None:
    """Computing blocks again does not count a batch twice; frozen stages count none."""
    plain, saving, frozen = (
        MambaVision(SMALL, with_cp=flag, frozen_stages=stages).train()
        for flag, stages in ((False, -1), (True, -1), (True, 1))
    )
    x = torch.rand(2, 3, 32, 32)
    before = {name: buffer.clone() for name, buffer in plain.named_buffers()}
    for model in (saving, frozen):
        model.load_state_dict(plain.state_dict())
    for model in (plain, saving, frozen):
        model(x)[3].square().sum().backward()
    kept = ('patch_embed.', 'levels.0.')
    for name, buffer in plain.named_buffers():
        assert not torch.equal(buffer, before[name]), name
        torch.testing.assert_close(dict(saving.named_buffers())[name], buffer)
        still = dict(frozen.named_buffers())[name]
        assert torch.equal(still, before[name]) == name.startswith(kept), name


def test_maps_stay_channel_last() -> None:
    """No convolution turns a map round."""
    mambavision = MambaVision(SMALL).eval()
    seen = []
    for name, module in mambavision.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out, name=name: seen.append((name, args[0], out)))
    mambavision(torch.rand(2, 3, 64, 96))
    assert len(seen) == 9
    for name, x, out in seen:
        assert x.is_contiguous(memory_format=torch.channels_last), name
        assert out.is_contiguous(memory_format=torch.channels_last), name


def test_initialisation() -> None:
    """As the authors' code leaves it: the steps' projection like every other, A and D as in Mamba."""
    mixer = MambaVision('tiny').levels[2].blocks[0].mixer
    for weight in (mixer.in_proj.weight, mixer.x_proj_weight, mixer.dt_projs_weight, mixer.out_proj.weight):
        assert 0.014 < weight.std() < 0.026
    assert not mixer.dt_projs_bias.any() and (mixer.Ds == 1).all()
    torch.testing.assert_close(mixer.A_logs.exp(), torch.arange(1.0, 9).expand(1, 160, 8))
    assert MambaVision('base').levels[3].blocks[0].gamma_2.unique().tolist() == pytest.approx([1e-5])


def test_layer_depth() -> None:
    mambavision = MambaVision(SMALL)
    expected = {'backbone.patch_embed.conv1.weight': 0, 'backbone.levels.0.blocks.0.conv1.weight': 1}
    expected |= {'backbone.levels.1.downsample.conv.weight': 2, 'backbone.levels.2.blocks.2.mixer.qkv.weight': 5}
    expected |= {'backbone.levels.3.blocks.0.mixer.A_logs': 6, 'backbone.outnorm0.weight': 8}
    for name, depth in expected.items():
        assert mambavision.get_layer_depth(name, 'backbone.') == (depth, 9), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_stays_close(dtype: torch.dtype) -> None:
    mambavision = MambaVision(SMALL).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = mambavision(x)
    with torch.autocast('cpu', dtype):
        rough = mambavision(x)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32  # the sum over all blocks
        assert (a - b).norm() < 0.03 * a.norm()


def test_half_precision_parameters() -> None:
    mambavision = MambaVision(SMALL).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = mambavision(x)
    for a, b in zip(exact, mambavision.bfloat16()(x.bfloat16()), strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b).norm() < 0.06 * a.norm()


def test_compile_without_a_graph_break() -> None:
    """Windows of a map of any size; the tables of walks are there before."""
    stage = MambaVision(THREE, out_indices=2, window_sizes=(3,)).eval().levels[2]
    compiled = torch.compile(stage, fullgraph=True, backend='eager', dynamic=True)
    for size in ((4, 5), (5, 7)):
        x = torch.rand(1, *size, 64)
        torch.testing.assert_close(compiled(x), stage(x))


def test_export_and_trace() -> None:
    mambavision = MambaVision(SMALL, window_sizes=(3, 2)).eval()
    x = torch.rand(1, 3, 64, 80)
    torch.testing.assert_close(torch.export.export(mambavision, (x,)).module()(x), mambavision(x))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(mambavision, x)(x + 1), mambavision(x + 1))


def test_learns() -> None:
    """A few steps lower a loss: gradients point the right way through all stages."""
    mambavision = MambaVision(SMALL).train()
    optimizer = torch.optim.AdamW(mambavision.parameters(), 3e-3)
    x, target = torch.rand(2, 3, 32, 32), torch.randn(2, 128, 1, 1)
    losses = []
    for _ in range(15):
        loss = (mambavision(x)[3] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1]) and losses[-1] < 0.7 * losses[0]
