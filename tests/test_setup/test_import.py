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


def test_leaves_downstream_packages_alone_and_says_nothing() -> None:
    code = """
import sys, mmvim
assert 'mmengine' in sys.modules
for name in ('mmdet', 'mmseg', 'mmcv.ops'):
    assert name not in sys.modules, name
"""
    assert run(code) == ''
