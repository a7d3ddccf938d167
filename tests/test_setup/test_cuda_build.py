"""For what and with what the CUDA kernels are compiled, by an nvcc that only says what it is."""

import stat
from pathlib import Path

import pytest

from kernels import build, build_cuda
from kernels.build_cuda import Toolkit, choose_architectures
from kernels.toolchain import BuildError, Torch

CUDA = build.LIBRARIES[1]
NEW = Toolkit('nvcc', '13.0', (75, 80, 86, 87, 88, 89, 90, 100, 110, 103, 120, 121))
OLD = Toolkit('nvcc', '12.0', (50, 70, 75, 80, 86, 89, 90))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('MMVIM_BUILD', 'CXX', 'CUDA_HOME', 'CUDA_PATH', 'TORCH_CUDA_ARCH_LIST'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def torch_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def pretend(cuda: str) -> None:
        torch = Torch(tmp_path / 'torch', f'2.11.0+cu{cuda.replace(".", "")}' if cuda else '2.11.0+cpu', cuda)
        monkeypatch.setattr(build_cuda, 'find_torch', lambda: torch)

    return pretend


def toolkit(folder: Path, compiles: str = 'exit 1') -> Path:
    """A folder for CUDA_HOME whose nvcc is of CUDA 13.0."""
    nvcc = folder / 'bin' / 'nvcc'
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        '--version) echo "Cuda compilation tools, release 13.0, V13.0.88";;\n'
        '--list-gpu-arch) printf "compute_75\\ncompute_90\\ncompute_120\\n";;\n'
        f'*) {compiles};;\nesac\n'
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(
    ('asked', 'toolkit', 'machine', 'ptx'),
    [
        ('', NEW, '75 80 86 89 90 100 120', '120'),
        (' ', OLD, '75 80 86 89 90', '90'),
        ('9.0', NEW, '90', ''),
        ('9.0a', NEW, '90a', ''),
        ('8.0;9.0+PTX', NEW, '80 90', '90'),
        ('7.5 8.0, 8.6 10.0 12.0+PTX', NEW, '75 80 86 100 120', '120'),
        ('9.0;9.0+PTX', NEW, '90', '90'),
        ('Ampere', NEW, '80 86', '86'),
        ('Hopper;8.0', OLD, '90 80', '90'),
        ('12.1', NEW, '121', ''),
    ],
)
def test_architectures(asked: str, toolkit: Toolkit, machine: str, ptx: str) -> None:
    chosen = choose_architectures(asked, toolkit)
    assert chosen == (tuple(machine.split()), tuple(ptx.split()))


@pytest.mark.parametrize(
    ('asked', 'toolkit', 'message'),
    [
        ('7.0', OLD, 'asks for 7.0; with nvcc 12.0 the kernels can be built for 7.5, 8.0, 8.6, 8.9, 9.0'),
        ('10.0', OLD, 'asks for 10.0'),
        ('Blackwell', OLD, 'asks for 10.0'),
        ('sm_90', NEW, "'sm_90' is not understood; write '8.0;9.0\\+PTX'"),
        ('native', NEW, "'native' is not understood"),
    ],
)
def test_architectures_that_cannot_be(asked: str, toolkit: Toolkit, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        choose_architectures(asked, toolkit)


def test_options_of_nvcc() -> None:
    chosen = choose_architectures('8.0;9.0+PTX', NEW)
    assert chosen.flags() == [
        '-gencode=arch=compute_80,code=sm_80',
        '-gencode=arch=compute_90,code=sm_90',
        '-gencode=arch=compute_90,code=compute_90',
    ]
    assert str(chosen) == 'sm_80, sm_90, compute_90 (PTX)'


def test_toolkit_of_cuda_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CUDA_HOME', str(toolkit(tmp_path / 'cuda')))
    assert build_cuda.find_toolkit() == (str(tmp_path / 'cuda/bin/nvcc'), '13.0', (75, 90, 120))
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    with pytest.raises(BuildError, match=f'no nvcc in CUDA_HOME={tmp_path}'):
        build_cuda.find_toolkit()


def test_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_of) -> None:
    target = tmp_path / '_C_cuda.abi3.so'
    target.write_text('of an older build')
    monkeypatch.setenv('CUDA_HOME', str(toolkit(tmp_path / 'cuda')))

    torch_of('')
    line = build.build_or_explain(CUDA, target)
    assert line.startswith('mmvim: the CUDA kernels are not built, CUDA tensors take the slower PyTorch path: ')
    assert line.endswith('torch 2.11.0+cpu is not built for CUDA')
    assert not target.exists()

    torch_of('12.8')
    line = build.build_or_explain(CUDA, target)
    assert 'built for CUDA 12.8' in line and 'is of CUDA 13.0; set CUDA_HOME to a toolkit of CUDA 12' in line

    torch_of('13.0')
    assert '/nvcc failed' in build.build_or_explain(CUDA, target)
    assert not target.exists()
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '8.0')
    assert 'can be built for 7.5, 9.0, 12.0' in build.build_or_explain(CUDA, target)

    monkeypatch.setenv('MMVIM_BUILD', 'cuda')
    with pytest.raises(BuildError, match='asks for 8.0'):
        build.build_or_explain(CUDA, target)
    monkeypatch.setenv('MMVIM_BUILD', 'cpu')
    assert build.build_or_explain(CUDA, target) == ''


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_of) -> None:
    """Every source is compiled for every architecture, the binding against torch, and all are linked once."""
    log = tmp_path / 'log'
    script = f'echo "$@" >> {log}; while [ $# -gt 1 ]; do shift; done; touch "$1"'
    monkeypatch.setenv('CUDA_HOME', str(toolkit(tmp_path / 'cuda', script)))
    monkeypatch.setenv('CXX', 'ccache g++-12')
    torch_of('13.2')
    target = tmp_path / 'package' / '_C_cuda.abi3.so'
    assert build.build_or_explain(CUDA, target) == ''
    assert target.exists()
    *compiled, linked = sorted(log.read_text().splitlines(), key=lambda line: '-shared' in line)
    sources = sorted(path.name for path in (build_cuda.KERNELS / 'cuda').glob('*.cu'))
    assert sources
    assert len(compiled) == len(sources) + 1
    for line in compiled:
        assert line.startswith('-ccbin g++-12 -std=c++20')
        if 'stable_cuda.cpp' in line:
            assert f'-isystem {tmp_path}/torch/include' in line
            assert '-DMMVIM_CUDA_ARCHITECTURES="sm_75, sm_90, sm_120, compute_120 (PTX)"' in line
        else:
            assert [f'sm_{number}' in line for number in (75, 90, 120)] == [True] * 3
            assert 'code=compute_120' in line and str(tmp_path / 'torch') not in line
    assert '-ltorch_cuda' in linked and '-cudart static' in linked
    assert all(f'/{Path(source).stem}.o' in linked for source in sources)
