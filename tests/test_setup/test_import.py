"""What `import mmvim` needs and costs, each time in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TORCH_ALONE = """
import sys
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'rich', 'cv2'):
    sys.modules[name] = None
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_needs_torch_alone_and_little_time() -> None:
    code = """
import torch, time
start = time.perf_counter()
import mmvim, mmvim.ops
print(time.perf_counter() - start)
"""
    seconds = min(float(run(TORCH_ALONE + code)) for _ in range(2))  # the first import writes the byte code
    assert seconds < 1


def test_scan_runs_with_torch_alone() -> None:
    code = """
import torch
from mmvim import ops
u, matrix = torch.rand(1, 5, 4), torch.rand(1, 5, 2)
walks = ops.Walks(1, 5, (0, 2), None)
print(ops.scan(u, u, -torch.ones(1, 4, 2), matrix, matrix, walks=walks).shape)
"""
    assert '[1, 5, 4]' in run(TORCH_ALONE + code)


def test_backbones_need_a_registry_and_torch() -> None:
    """With of all mmengine a registry that keeps nothing, and of everything else that is installed here nothing."""
    code = """
import sys
from types import ModuleType
import torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top not in ('mmvim', 'numpy', 'sympy', 'torch') and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(name)

class Registry:
    def __init__(self, *_, **__): pass
    def register_module(self, *_, module=None, **__): return module or (lambda cls: cls)

sys.modules['mmengine'] = None
import mmvim
sys.meta_path.insert(0, Refuse())
registry = ModuleType('mmengine.registry')
registry.Registry = Registry
for name in ('DATASETS', 'HOOKS', 'METRICS', 'MODELS',
             'OPTIM_WRAPPER_CONSTRUCTORS', 'OPTIM_WRAPPERS', 'RUNNERS', 'TRANSFORMS'):
    setattr(registry, name, Registry())
sys.modules |= {'mmengine': ModuleType('mmengine'), 'mmengine.registry': registry}
from mmvim.models import MambaOut, MambaVision, Vim, VMamba
vim = Vim({'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
vmamba = VMamba({'embed_dims': 16, 'depths': (1,)}, out_indices=0)
mambaout = MambaOut({'embed_dims': (16,), 'depths': (1,)}, out_indices=0)
mambavision = MambaVision({'embed_dims': 16, 'depths': (1, 1, 2), 'heads': (1,)}, out_indices=2)
print(*(model(torch.rand(1, 3, 32, 32))[0].shape[-1] for model in (vim, vmamba, mambaout, mambavision)))
"""
    assert run(code) == '2 8 8 2\n'


def test_leaves_downstream_packages_alone_and_says_nothing() -> None:
    code = """
import sys, mmvim
assert 'mmengine' in sys.modules
for name in ('mmdet', 'mmseg', 'mmcv.ops'):
    assert name not in sys.modules, name
"""
    assert run(code) == ''
