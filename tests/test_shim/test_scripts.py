"""Unmodified research code runs on mmvim's operators where its own packages are absent."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmvim import shim
from mmvim.ops import selective_scan_fn
from mmvim.ops.testing import relative_error
from mmvim.shim.child.sitecustomize import NAMES

SCRIPT = Path(__file__).with_name('research_script.py')


def python(*args: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    folders = [str(Path(__file__).parents[2]), *([str(path)] if path else [])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(folders), 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=env)


def test_research_script(tmp_path):
    answer = python('-m', 'mmvim.shim', str(SCRIPT), '--out', 'results.pt', cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    saved = torch.load(tmp_path / 'results.pt')
    assert saved['path'] == str(SCRIPT.parent)
    results = saved['results']
    assert results.pop('half') == torch.float32
    plain = results.pop('plain')
    assert len(plain) == 2 + 6
    assert results.keys() == {'oflex', 'core', 'mamba'}
    for name, values in results.items():
        assert max(map(relative_error, values, plain)) < 1e-5, name
    of_mamba_2 = 'of Mamba-2 there is only selective_state_update; install mamba-ssm on a machine with a GPU'
    assert answer.stdout.splitlines() == [
        f'mmvim.shim does not cover mamba_ssm.ops.triton.ssd_combined: {of_mamba_2}',
        f'mmvim.shim does not cover Mamba2: {of_mamba_2}',
        'seq_idx: several sequences in one row are not supported, pass one sequence per row',
    ]
    lines = [line for line in answer.stderr.splitlines() if 'mmvim' in line]
    served = [f'mmvim.shim: {", ".join(NAMES[:-1])}: computed by mmvim.ops; triton: its names alone']
    assert lines == served


def test_installed_packages_win(tmp_path):
    """One package is installed whole, another without its compiled part."""
    (tmp_path / 'causal_conv1d.py').write_text('causal_conv1d_fn = "installed"')
    (tmp_path / 'mamba_ssm').mkdir()
    (tmp_path / 'mamba_ssm' / '__init__.py').write_text('import selective_scan_cuda\nfwd = selective_scan_cuda.fwd')
    script = tmp_path / 'script.py'
    script.write_text(
        'import mmvim.shim; mmvim.shim.install()\n'
        'import causal_conv1d, mamba_ssm\n'
        'print(causal_conv1d.causal_conv1d_fn, mamba_ssm.__file__, mamba_ssm.fwd.__module__)\n'
        'for name in ("mamba_ssm.ops", "causal_conv1d.causal_conv1d_interface", "selective_scan_cuda.x"):\n'
        '    try: __import__(name)\n'
        '    except ModuleNotFoundError as error: print(error)\n'
    )
    answer = python('-m', 'mmvim.shim', str(script), cwd=tmp_path, path=tmp_path)
    assert answer.returncode == 0, answer.stderr
    installed, *missing = answer.stdout.splitlines()
    assert installed == f'installed {tmp_path / "mamba_ssm" / "__init__.py"} mmvim.shim.scans'
    assert len(missing) == 3
    assert all(line.startswith('No module named') for line in missing)
    served = 'selective_scan_cuda, selective_scan_cuda_core, selective_scan_cuda_oflex, causal_conv1d_cuda'
    assert answer.stderr.count('mmvim.shim') == 1  # it was installed twice, and speaks once
    assert f'mmvim.shim: {served}: computed' in answer.stderr


def test_triton_and_spawned_processes(tmp_path):
    """The environment has a sitecustomize of its own, and processes start where no mmvim is found."""
    (tmp_path / 'sitecustomize.py').write_text('MINE = "the other one"')
    script = Path(__file__).with_name('triton_script.py')
    start = (
        f'import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from mmvim import shim; shim.install()'
    )
    runner = tmp_path / 'runner.py'
    runner.write_text(f'{start}\nimport runpy\nrunpy.run_path({str(script)!r}, run_name="__main__")')
    answer = subprocess.run(
        [sys.executable, str(runner)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path), 'CUDA_VISIBLE_DEVICES': ''},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    cannot = (
        'cannot run: Triton is not installed, and mmvim.shim has its names alone. '
        "Take the code's path without Triton, or install triton on a machine with a GPU"
    )
    assert lines == [
        '[0.0, 2.0, 4.0, 6.0, 8.0]',
        f'the Triton kernel scale {cannot}',
        f'the Triton kernel scale {cannot}',
        f'the Triton kernel other {cannot}',
        f'triton.language.zeros {cannot}',
        f'triton.runtime.driver.active.get_current_device {cannot}',
        'Doubles x. [128, 256] 3.0.0',
        '1.0',
        'True',
        '4',
        'False False the other one',
    ]


def test_processes_wait_for_the_names_that_there_are():
    assert set(NAMES) == {name for name in shim.MODULES if '.' not in name} | {'triton'}


def test_mamba_ssm_without_triton(tmp_path):
    """An installed mamba-ssm keeps what is PyTorch; its Triton kernels are computed here."""
    folder = tmp_path / 'mamba_ssm' / 'ops' / 'triton'
    folder.mkdir(parents=True)
    for place in (folder, *list(folder.parents)[:2]):
        (place / '__init__.py').write_text('')
    for name in ('layernorm', 'selective_state_update', 'ssd_combined'):
        (folder / f'{name}.py').write_text('import triton\nRMSNorm = selective_state_update = private = "theirs"')
    script = tmp_path / 'script.py'
    script.write_text(
        'from mamba_ssm.ops.triton.layernorm import RMSNorm, private\n'
        'from mamba_ssm.ops.triton.selective_state_update import selective_state_update\n'
        'from mamba_ssm.ops.triton import ssd_combined\n'
        'found = RMSNorm, selective_state_update, ssd_combined.RMSNorm, private\n'
        'print(*(getattr(x, "__module__", x) for x in found))\n'
    )
    answer = python('-m', 'mmvim.shim', str(script), cwd=tmp_path, path=tmp_path)
    assert answer.stdout.strip() == 'mmvim.shim.norms mmvim.shim.steps theirs theirs', answer.stderr
    (tmp_path / 'triton.py').write_text('')
    answer = python('-m', 'mmvim.shim', str(script), cwd=tmp_path, path=tmp_path)
    assert answer.stdout.strip() == 'theirs theirs theirs theirs', answer.stderr
    assert 'triton: its names alone' not in answer.stderr


@pytest.mark.parametrize('args', [[], ['absent.py', '--x']])
def test_wrong_use(args, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['mmvim.shim', *args])
    usage = f'no such script: {" ".join(args[:1])}\nusage: python -m mmvim.shim SCRIPT ARGS...'
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module('mmvim.shim', run_name='__main__')
    assert stopped.value.code == usage


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_mamba_kernel_with_gate(dtype):
    """What mamba-ssm's own Python code needs: the last state inside x, the gate's gradient, the result once more."""
    torch.manual_seed(0)
    fwd, bwd = shim.MODULES['selective_scan_cuda'].values()
    u, delta, z = (torch.randn(2, 6, 40).to(dtype) for _ in range(3))
    B, C = (torch.randn(2, 2, 3, 40).to(dtype) for _ in range(2))
    A, bias = -torch.rand(6, 3), torch.randn(6)
    out, x, out_z = fwd(u, delta, A, B, C, None, z, bias, True)
    ungated, state = selective_scan_fn(u, delta, A, B, C, None, None, bias, True, True)
    assert torch.equal(out, ungated)
    assert out.stride() == out_z.stride() == u.stride()
    torch.testing.assert_close(x[:, :, -1, 1::2], state)

    leaves = [t.clone().requires_grad_() for t in (u, delta, A, B, C, z, bias)]
    gated = selective_scan_fn(*leaves[:5], None, leaves[5], leaves[6], True)
    torch.testing.assert_close(out_z, gated.detach())
    dout = torch.randn_like(u)
    gated.backward(dout)
    dz = torch.empty_like(z)
    du, ddelta, dA, dB, dC, dD, dbias, dz_, out_z_ = bwd(u, delta, A, B, C, None, z, bias, dout, x, out, dz, True, True)
    assert dD is None
    assert dz_ is dz
    torch.testing.assert_close(out_z_, out_z)
    got = (du, ddelta, dA, dB, dC, dz, dbias)
    assert all(torch.equal(gradient, leaf.grad) for gradient, leaf in zip(got, leaves, strict=True))
    without_gate = bwd(u, delta, A, B, C, None, None, bias, dout, x, None, None, True, False)
    assert len(without_gate) == 7
