"""What a wheel built from a copy of the checkout holds, with a compiler that fails."""

import os
import shutil
import subprocess
import sys
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ('benchmarks', 'configs', 'tools')
PARTS = ('pyproject.toml', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE', 'mmvim', 'kernels', *FOLDERS)


def build(folder: Path, kernels: str) -> tuple[Path, str]:
    """A wheel of a copy of the checkout, with ``MMVIM_BUILD=kernels`` and a compiler that fails, and what pip said."""
    source = folder / 'source'
    source.mkdir()
    for part in map(REPOSITORY.joinpath, PARTS):
        if part.is_dir():
            shutil.copytree(part, source / part.name, ignore=shutil.ignore_patterns('*.so', '.mim', '__pycache__'))
        else:
            shutil.copy(part, source)
    stale = source / 'build' / 'lib' / 'mmvim' / 'of_an_older_build.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    command = [sys.executable, '-m', 'pip', 'wheel', '-v', '--no-deps', '--no-build-isolation', '--no-index']
    result = subprocess.run(
        [*command, '-w', str(folder), str(source)],
        env={**os.environ, 'CXX': '/bin/false', 'MMVIM_BUILD': kernels},
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return next(folder.glob('*.whl')), output


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    path, output = build(tmp_path_factory.mktemp('wheel'), 'auto')
    assert output.count('the C++ kernels are not built') == 1, output
    return ZipFile(path)


def test_without_kernels_it_is_for_every_system(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 'none')
    assert path.name.endswith('-py3-none-any.whl')
    assert 'mmvim/ops/chunked.py' in ZipFile(path).namelist()


@pytest.fixture(scope='module')
def metadata(wheel: ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith('.dist-info/METADATA'))
    return Parser().parsestr(wheel.read(name).decode())


def test_every_module_and_nothing_else_on_top(wheel: ZipFile) -> None:
    names = set(wheel.namelist())
    top = {name.split('/')[0] for name in names}
    assert top == {'mmvim', next(name for name in top if name.endswith('.dist-info'))}
    modules = {
        str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob('mmvim/**/*.py') if '.mim' not in path.parts
    }
    assert modules <= names
    assert {name for name in names if name.endswith('.py') and '/.mim/' not in name} == modules


def test_configs_and_scripts_are_in_mim(wheel: ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in FOLDERS:
        files = [path for path in REPOSITORY.glob(f'{folder}/**/*') if path.is_file() and path.suffix != '.pyc']
        assert files
        assert {f'mmvim/.mim/{path.relative_to(REPOSITORY)}' for path in files} <= names


def test_no_kernels_by_a_failing_compiler(wheel: ZipFile) -> None:
    assert not [name for name in wheel.namelist() if name.endswith('.so')]


def test_torch_and_numpy_are_all_that_is_required(metadata: Message) -> None:
    required = [line for line in metadata.get_all('Requires-Dist') if 'extra ==' not in line]
    assert required == ['torch>=2.4', 'numpy>=1.24']
    assert metadata['Requires-Python'] == '<3.14,>=3.10'


def test_the_flavours_of_openmmlab_are_extras(metadata: Message) -> None:
    extras = set(metadata.get_all('Provides-Extra'))
    assert extras >= {'onedl', 'det', 'seg', 'openmmlab', 'test', 'dev'}
    for line in metadata.get_all('Requires-Dist'):
        if 'extra == "openmmlab"' in line:
            assert 'onedl' not in line
