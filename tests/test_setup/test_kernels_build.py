"""How the build of the kernels finds torch and compilers, and what it says when it cannot go on."""

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kernels import build, toolchain
from kernels.toolchain import BuildError

CPU, CUDA = build.LIBRARIES


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('MMVIM_BUILD', 'CXX'):
        monkeypatch.delenv(name, raising=False)


def pretend_torch(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, cuda: str = 'cuda = None') -> None:
    folder.mkdir()
    (folder / 'version.py').write_text(f"__version__ = '{version}'\ndebug = False\n{cuda}\nhip = None\n")
    spec = SimpleNamespace(origin=str(folder / '__init__.py'))
    monkeypatch.setattr(toolchain.importlib.util, 'find_spec', lambda name: spec)


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_torch_is_found_where_pip_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, 'find_spec', lambda name: None)
    found = toolchain.find_torch()
    assert found == (Path(torch.__file__).parent, torch.__version__, torch.version.cuda or '')


@pytest.mark.parametrize(('version', 'good'), [('2.9.1', False), ('2.10.0+cu130', True), ('3.0.0', True)])
def test_oldest_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    pretend_torch(monkeypatch, tmp_path / 'torch', version)
    if good:
        assert toolchain.find_torch().folder == tmp_path / 'torch'
    else:
        with pytest.raises(BuildError, match=r'torch 2\.10 or later, torch 2\.9\.1 is installed'):
            toolchain.find_torch()


@pytest.mark.parametrize(
    ('line', 'cuda'),
    [
        ("cuda: Optional[str] = '13.0'", '13.0'),
        ("cuda = '12.8'", '12.8'),
        ('cuda: Optional[str] = None', ''),
        ('cuda: str | None = None', ''),
    ],
)
def test_cuda_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, cuda: str) -> None:
    pretend_torch(monkeypatch, tmp_path / 'torch', '2.11.0', line)
    assert toolchain.find_torch().cuda == cuda


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(toolchain.subprocess, 'run', lambda *args, **options: SimpleNamespace(stdout='\n'))
    with pytest.raises(BuildError, match='install torch first'):
        toolchain.find_torch()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(BuildError, match='install g'):
        toolchain.find_compiler()


def test_compiler_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', 'ccache g++')
    assert toolchain.find_compiler() == ['ccache', 'g++']


@pytest.mark.parametrize('compiler', ['/bin/false', '/nowhere/g++'])
def test_failing_compiler_leaves_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    library = tmp_path / '_C.abi3.so'
    library.write_text('of an older build')
    monkeypatch.setenv('CXX', compiler)
    line = build.build_or_explain(CPU, library)
    assert 'slower PyTorch path' in line and compiler in line and '\n' not in line
    assert not any(tmp_path.iterdir())


def test_failing_compiler_is_an_error_when_kernels_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CXX', '/bin/false')
    for choice in ('cpu', 'cuda'):
        monkeypatch.setenv('MMVIM_BUILD', choice)
        with pytest.raises(BuildError, match='/bin/false failed'):
            build.build_or_explain(CPU, tmp_path / '_C.abi3.so')


def test_the_error_of_the_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "In file included from here" >&2\necho "x.cpp:1: error: no coffee" >&2\nexit 1\n'
    monkeypatch.setenv('CXX', str(executable(tmp_path / 'bin' / 'cxx', script)))
    assert 'x.cpp:1: error: no coffee' in build.build_or_explain(CPU, tmp_path / '_C.abi3.so')


def test_nothing_is_built_when_none_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMVIM_BUILD', 'none')
    for library in build.LIBRARIES:
        assert build.build_or_explain(library, tmp_path / '_C.abi3.so') == ''
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('library', build.LIBRARIES, ids=lambda library: library.module)
@pytest.mark.parametrize('system', ['darwin', 'win32'])
def test_other_systems_take_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, library: build.Library
) -> None:
    monkeypatch.setattr(toolchain.sys, 'platform', system)
    assert 'Linux on x86-64' in build.build_or_explain(library, tmp_path / '_C.abi3.so')


def test_unknown_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMVIM_BUILD', 'yes')
    with pytest.raises(SystemExit, match="auto, cpu, cuda or none, got 'yes'"):
        build.requested()
