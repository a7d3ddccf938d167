"""mmengine's, mmdet's and mmseg's counters of operations against our own, which is held against published numbers."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info

from mmvim.analysis.flops import count_operations
from mmvim.models import (
    DeiT,
    EfficientVMamba,
    LocalVim,
    LocalVMamba,
    MambaOut,
    MambaVision,
    PlainMamba,
    Vim,
    VMamba,
)
from mmvim.models.backbones.base import Backbone
from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.testing import BACKENDS, scan_case

PATCHES = {'embed_dims': 32, 'depth': 2, 'patch_size': 16, 'patch_stride': 8}
HYBRID = {'embed_dims': 16, 'stem_dims': 8, 'depths': (1, 1, 3, 2), 'heads': (2, 2)}
STAGES = {'embed_dims': 16, 'depths': (1, 2)}
BUILD: dict[str, Callable[[], Backbone]] = {
    'vim': partial(Vim, PATCHES),
    'vim with a class token': partial(Vim, PATCHES, out_type='cls_token'),
    'vim, other walks': partial(Vim, PATCHES, walks='snake'),
    'vmamba': partial(VMamba, STAGES, out_indices=(0, 1)),
    'vmamba v0': partial(VMamba, {**STAGES, 'd_state': 16, 'gate': True, 'mlp_ratio': 0.0}, out_indices=1),
    'vmamba, other walks': partial(VMamba, STAGES, out_indices=1, walks='strided'),
    'localvim': partial(LocalVim, PATCHES),
    'localvmamba': partial(LocalVMamba, STAGES, out_indices=(0, 1)),
    'mambaout': partial(MambaOut, {'embed_dims': (16, 24), 'depths': (1, 2)}, out_indices=(0, 1)),
    'mambavision': partial(MambaVision, HYBRID),
    'efficientvmamba': partial(
        EfficientVMamba, {'embed_dims': (16, 24), 'depths': (1, 2), 'scan_stages': 1}, out_indices=1
    ),
    'plainmamba': partial(PlainMamba, {'embed_dims': 32, 'depth': 2, 'conv_blocks': (0,)}),
    'deit': partial(DeiT, {'embed_dims': 32, 'depth': 2, 'heads': 2}),
}


@pytest.mark.parametrize('build', BUILD.values(), ids=BUILD)
def test_models(build: Callable[[], Backbone]) -> None:
    with torch.device('meta'):
        own = count_operations(build().eval(), torch.rand(1, 3, 72, 56))['total']
    counter = FlopAnalyzer(build().eval(), (torch.rand(1, 3, 72, 56),))
    # mmengine counts BatchNorm, which becomes a part of the convolution in front of it; the rule here does not.
    assert counter.total() - counter.by_operator()['batch_norm'] == own
    assert not [name for name in counter.unsupported_ops() if 'mmvim' in name]


@pytest.mark.parametrize(
    ('build', 'published'), [(VMamba, 4.9), (MambaOut, 4.5), (EfficientVMamba, 0.8)]
)  # in G, by the authors
def test_complexity_info(build: Callable[..., Backbone], published: float) -> None:
    backbone = build('tiny', out_indices=(3,)).eval()
    info = get_model_complexity_info(backbone, (3, 224, 224), show_table=False, show_arch=False)
    assert round(info['flops'] / 1e9, 1) == published


class Operators(torch.nn.Module):
    def __init__(self, walk: walks.Walks, backend: str, **options) -> None:
        super().__init__()
        self.walk, self.backend, self.options = walk, backend, options

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        case = scan_case(self.walk, dtype=torch.float32, channels=4, per_walk=False, **self.options) | {'u': u}
        x = walk_conv(u, torch.ones(self.walk.num_walks, 4, 3), walks=self.walk, backend=self.backend)
        return scan(**case, backend=self.backend).sum() + x.sum()


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('options', [{}, {'rank': 2, 'z': True}, {'D': False, 'merge': 'none'}], ids=str)
@pytest.mark.parametrize('walk', [walks.cross(3, 5), walks.local(3, 5, ('w2', 'h'))], ids=['kinds', 'table'])
def test_operators(walk: walks.Walks, options: dict, backend: str) -> None:
    module, u = Operators(walk, backend, **options), torch.randn(2, 15, 4)
    counts = FlopAnalyzer(module, (u,)).by_operator()
    suffix = {'torch': '_torch', 'cpu': ''}[backend]
    assert counts[f'scan{suffix}'] > 0 and counts[f'walk_conv{suffix}'] > 0
    own = count_operations(module, u)
    assert (counts[f'scan{suffix}'], counts[f'walk_conv{suffix}']) == (own['scans'], own['convolutions'])
