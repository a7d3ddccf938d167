"""Which names timm learns, and what is said where something is missing; imports each in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from elsewhere import ELSEWHERE, SMALL

import mmvim
from mmvim.catalogue import FAMILIES
from mmvim.registry import BACKBONES

ROOT = Path(__file__).parents[2]


def run(code: str, *path: Path) -> subprocess.CompletedProcess:
    search = os.pathsep.join(map(str, [*path, ROOT, ROOT / 'tests', ELSEWHERE]))
    environment = {**os.environ, 'PYTHONPATH': search, 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_every_variant_of_every_family(timm: ModuleType) -> None:
    import mmvim.timm

    names = set(mmvim.timm.NAMES)
    assert {'vim_tiny', 'vim_small', 'vim_base', 'vim_small_plus', 'vmamba_tiny', 'vmamba_v0_base'} <= names
    assert names <= set(timm.list_models())
    for family in FAMILIES.values():
        archs = getattr(BACKBONES.get(family.backbone), 'arch_zoo', {})
        known = {arch for arch in archs if timm.is_model(f'{family.name.lower()}_{arch}')}
        assert all(any(archs[other] == archs[arch] for other in known) for arch in archs), family.name
    assert timm.create_model('mambaout_femto', num_classes=0).__class__.__module__ == 'timm.models.mambaout'
    assert not any(name.startswith('mambaout') for name in names)


def test_every_family_has_a_small_model() -> None:
    """Else the tests of this folder would not know it: a line in tests/elsewhere.py."""
    registered = {family.backbone for family in FAMILIES.values() if family.backbone} - {'MambaOut'}
    assert registered == set(SMALL)


def test_a_family_from_outside(timm: ModuleType) -> None:
    from mmvim.catalogue import Family
    from mmvim.timm import register

    class Mine(BACKBONES['VMamba']):
        arch_zoo = {'t': {'embed_dims': 16, 'depths': (1, 1)}, 'tiny': {'embed_dims': 16, 'depths': (1, 1)}}

    BACKBONES['Mine'] = Mine
    try:
        register(Family('Mine', 'README.md', (), (), ('Scan',), backbone='Mine'))
    finally:
        del BACKBONES['Mine']
    assert timm.list_models('mine_*') == ['mine_tiny']
    assert timm.create_model('mine_tiny', num_classes=2)(torch.randn(1, 3, 32, 32)).shape == (1, 2)
    with pytest.raises(RuntimeError, match='No pretrained weights exist for mine_tiny'):
        timm.create_model('mine_tiny', pretrained=True)


def test_bad_input(timm: ModuleType) -> None:
    with pytest.raises(AttributeError, match='mmvim.timm has no model .vmamba_tinny.; nearest: vmamba_tiny'):
        _ = mmvim.timm.vmamba_tinny
    with pytest.raises(RuntimeError, match='Invalid pretrained tag'):
        timm.create_model('vmamba_tiny.in22k')
    for features_only in (False, True):
        with pytest.raises(TypeError, match='vmamba_tiny takes no depth=3; nearest: depths'):
            timm.create_model('vmamba_tiny', depth=3, features_only=features_only)
        for name, side in (('small_vim', 8), ('vmamba_v0_tiny', 3)):
            with pytest.raises(ValueError, match=f'an image of {side} x {side} pixels is smaller than a patch'):
                timm.create_model(name, img_size=side, features_only=features_only)
    with pytest.raises(ValueError, match='an image of 8 x 8 pixels is smaller than a patch of 16 x 16'):
        timm.create_model('small_vim')(torch.randn(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r'out_indices \(0, 7\): .*the outputs are numbered 0 to 3'):
        timm.create_model('small_vmamba', features_only=True, out_indices=(0, 7))
    with pytest.raises(ValueError, match="global_pool='token': expected one of 'avg', 'max'"):
        timm.create_model('small_vmamba', global_pool='token')
    with pytest.raises(ValueError, match="output_fmt='NCL': expected one of"):
        timm.create_model('small_vmamba').forward_intermediates(torch.randn(1, 3, 32, 32), output_fmt='NCL')


def test_no_timm() -> None:
    result = run('import sys; sys.modules["timm"] = None\nimport mmvim.timm')
    assert result.stderr.rstrip().endswith("pip install 'mmvim[timm]'")
    assert 'UserModuleNotFoundError: mmvim.timm needs timm (import of timm halted' in result.stderr


def test_a_torchvision_for_another_torch(tmp_path: Path) -> None:
    (tmp_path / 'timm.py').write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    last = run('import mmvim.timm', tmp_path).stderr.splitlines()[-1]
    assert (
        'UserImportError: timm cannot be imported (operator torchvision::nms does not exist): torchvision is not'
        in last
    )


def test_without_mmengine() -> None:
    code = """
import sys
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg'):
    sys.modules[name] = None
from elsewhere import load_timm
import torch
model = load_timm().create_model('small_vmamba', num_classes=3)
print(model(torch.rand(1, 3, 32, 32)).shape)
"""
    result = run(code)
    assert result.stdout == 'torch.Size([1, 3])\n', result.stderr


def test_mmengine_alone_does_not_bring_timm() -> None:
    assert (
        run('import sys, mmvim; print("timm" in sys.modules, "transformers" in sys.modules)').stdout == 'False False\n'
    )
