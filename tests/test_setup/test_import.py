"""What `import mmvim` needs and costs, each time in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer

from mmvim.models import VMamba

REPOSITORY = Path(__file__).parents[2]
SMALL = {'embed_dims': 16, 'depths': (1,)}
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


def test_models_and_files_need_torch_alone(tmp_path: Path) -> None:
    """Of everything else that is installed here nothing: models are built, filled from a file, and run."""
    given = VMamba(SMALL, out_indices=0)
    torch.nn.init.constant_(given.layers[0].blocks[0].norm.bias, 2.0)
    torch.save({'state_dict': given.state_dict(), 'message_hub': HistoryBuffer([1.0], [1])}, tmp_path / 'w.pth')
    code = f"""
import sys
import torch, numpy

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top not in ('mmvim', 'numpy', 'sympy', 'torch') and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(name)

for name in ('mmengine', 'mmcv'):
    sys.modules[name] = None
sys.meta_path.insert(0, Refuse())
from mmvim.models import DeiT, MambaOut, MambaVision, Vim, VMamba
small = {SMALL}
models = [
    VMamba(small, out_indices=0, init_cfg={{'type': 'Pretrained', 'checkpoint': {str(tmp_path / 'w.pth')!r}}}),
    Vim({{'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}}),
    MambaOut({{'embed_dims': (16,), 'depths': (1,)}}, out_indices=0),
    DeiT({{'embed_dims': 16, 'depth': 1, 'heads': 2}}),
    MambaVision({{'embed_dims': 16, 'depths': (1, 1, 2), 'heads': (1,)}}, out_indices=2),
]
models[0].init_weights()
print(*(model(torch.rand(1, 3, 32, 32))[0].shape[-1] for model in models))
print(models[0].layers[0].blocks[0].norm.bias.sum().item())
"""
    assert run(code) == '8 2 8 2 2\n32.0\n'


def test_leaves_downstream_packages_alone_and_says_nothing() -> None:
    code = """
import sys, mmvim
assert 'mmengine' in sys.modules
for name in ('mmdet', 'mmseg', 'mmcv.ops'):
    assert name not in sys.modules, name
"""
    assert run(code) == ''
