"""Mixed precision where there is no GPU."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from mmvim.engine import CpuAmpOptimWrapper, enable_amp
from mmvim.models.backbones import Vim
from mmvim.registry import OPTIM_WRAPPERS


@pytest.fixture(params=['cpu', 'cuda'])
def device(request, monkeypatch) -> str:
    monkeypatch.setattr('mmvim.engine.amp.get_device', lambda: request.param)
    return request.param


def config(**optim_wrapper: object) -> Config:
    return Config({'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}, **optim_wrapper}})


def test_training_runs_in_bf16_and_keeps_fp32_weights():
    torch.manual_seed(0)
    arch = {'embed_dims': 16, 'depth': 2, 'patch_size': 8, 'patch_stride': 8}
    model = nn.Sequential(Vim(arch, pretrain_img_size=32), nn.Identity())
    wrapper = CpuAmpOptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 20)
    seen = set()
    model[0].layers[0].mixer.out_proj.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    image = torch.rand(2, 3, 32, 32)
    losses = []
    for _ in range(20):
        with wrapper.optim_context(model):
            (features,) = model(image)
            loss = (features.float() - 1).square().mean()
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses[-1] < 0.8 * losses[0]
    assert not torch.is_autocast_enabled('cpu')


def test_it_resumes_from_checkpoints_of_the_gpu_wrapper():
    weight = nn.Parameter(torch.ones(1))
    first, second = (CpuAmpOptimWrapper(torch.optim.Adam([weight], lr=lr)) for lr in (0.1, 0.2))
    first.update_params((weight**2).sum())
    state = first.state_dict()
    assert 'loss_scaler' not in state
    second.load_state_dict(copy.deepcopy({**state, 'loss_scaler': {'scale': 65536.0}}))
    assert second.optimizer.param_groups[0]['lr'] == 0.1
    assert second.optimizer.state[weight]['step'] == 1


def test_configs_build_it():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    wrapper = OPTIM_WRAPPERS.build({'type': 'mmvim.CpuAmpOptimWrapper', 'optimizer': optimizer})
    assert isinstance(wrapper, OptimWrapper)


@pytest.mark.parametrize('wrapper', [{}, {'type': 'OptimWrapper'}, {'type': 'AmpOptimWrapper', 'loss_scale': 512.0}])
def test_the_option_fits_the_machine(device, wrapper):
    cfg = config(**wrapper, clip_grad={'max_norm': 1})
    enable_amp(cfg)
    if device == 'cpu':
        assert cfg.optim_wrapper.type == 'mmvim.CpuAmpOptimWrapper'
        assert 'loss_scale' not in cfg.optim_wrapper
    else:
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert cfg.optim_wrapper.loss_scale == wrapper.get('loss_scale', 'dynamic')
    assert cfg.optim_wrapper.clip_grad == {'max_norm': 1}


def test_a_wrapper_of_ones_own_is_refused():
    with pytest.raises(ValueError, match="--amp needs .*'OptimWrapper', this config has 'ApexOptimWrapper'"):
        enable_amp(config(type='ApexOptimWrapper'))
