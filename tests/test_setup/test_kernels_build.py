"""How the build of the C++ kernels finds torch and a compiler, and what it says when it cannot go on."""

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kernels import build


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('MMVIM_BUILD', 'CXX'):
        monkeypatch.delenv(name, raising=False)


def pretend_torch(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> None:
    folder.mkdir()
    (folder / 'version.py').write_text(f"__version__ = '{version}'\n")
    spec = SimpleNamespace(origin=str(folder / '__init__.py'))
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: spec)


def test_torch_is_found_where_pip_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: None)
    assert build.find_torch() == Path(torch.__file__).parent


@pytest.mark.parametrize(('version', 'good'), [('2.9.1', False), ('2.10.0+cu130', True), ('3.0.0', True)])
def test_oldest_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    pretend_torch(monkeypatch, tmp_path / 'torch', version)
    if good:
        assert build.find_torch() == tmp_path / 'torch'
    else:
        with pytest.raises(build.BuildError, match=r'torch 2\.10 or later, torch 2\.9\.1 is installed'):
            build.find_torch()


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(build.subprocess, 'run', lambda *args, **options: SimpleNamespace(stdout='\n'))
    with pytest.raises(build.BuildError, match='install torch first'):
        build.find_torch()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(build.BuildError, match='install g'):
        build.find_compiler()


def test_compiler_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', 'ccache g++')
    assert build.find_compiler() == ['ccache', 'g++']


@pytest.mark.parametrize('compiler', ['/bin/false', '/nowhere/g++'])
def test_failing_compiler_leaves_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    library = tmp_path / '_C.abi3.so'
    library.write_text('of an older build')
    monkeypatch.setenv('CXX', compiler)
    line = build.build_or_explain(library)
    assert 'slower PyTorch path' in line and compiler in line and '\n' not in line
    assert not any(tmp_path.iterdir())


def test_failing_compiler_is_an_error_when_kernels_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CXX', '/bin/false')
    monkeypatch.setenv('MMVIM_BUILD', 'cpu')
    with pytest.raises(build.BuildError, match='/bin/false failed'):
        build.build_or_explain(tmp_path / '_C.abi3.so')


def test_the_error_of_the_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / 'cxx'
    compiler.write_text(
        '#!/bin/sh\necho "In file included from here" >&2\necho "x.cpp:1: error: no coffee" >&2\nexit 1\n'
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv('CXX', str(compiler))
    assert 'x.cpp:1: error: no coffee' in build.build_or_explain(tmp_path / '_C.abi3.so')


def test_nothing_is_built_when_none_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMVIM_BUILD', 'none')
    assert build.build_or_explain(tmp_path / '_C.abi3.so') == ''
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('system', ['darwin', 'win32'])
def test_other_systems_take_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(build.sys, 'platform', system)
    assert 'Linux on x86-64' in build.build_or_explain(tmp_path / '_C.abi3.so')


def test_unknown_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMVIM_BUILD', 'yes')
    with pytest.raises(SystemExit, match="auto, cpu, cuda or none, got 'yes'"):
        build.requested()
