"""The set-up behind the Makefile: steps are done once, interruptions are found out, wheels are whole or not there."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def setup_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup_env.py on an environment in a folder of its own, with pip and the kernels' build made harmless."""
    spec = importlib.util.spec_from_file_location('setup_env', REPOSITORY / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / '.venv'
    venv.mkdir()
    monkeypatch.setattr(module, 'VENV', venv)
    monkeypatch.setattr(module, 'STATE', venv / 'state.json')
    monkeypatch.setattr(module, 'venv_tag', lambda: 'cp311')
    monkeypatch.setattr(module, 'pip', lambda *arguments, **variables: None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return module


def test_a_step_is_done_once_for_each_basis(setup_env: ModuleType) -> None:
    done = []
    for basis in ('a', 'a', 'b'):
        setup_env.State().step('bake', basis, lambda basis=basis: done.append(basis))
    assert done == ['a', 'b']


@pytest.mark.parametrize('accident', [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_step_is_remembered(setup_env: ModuleType, accident: type[BaseException]) -> None:
    def work() -> None:
        raise accident

    with pytest.raises(accident):
        setup_env.State().step('bake', 'a', work)
    assert json.loads(setup_env.STATE.read_text()) == {'interrupted': 'bake'}


@pytest.mark.parametrize(
    ('state', 'remade'),
    [
        ({'made': 'here', 'venv': 'cp311'}, False),
        ({'made': 'here', 'interrupted': 'torch'}, True),
        ({'interrupted': 'torch'}, False),  # made by somebody else: never removed
    ],
)
def test_only_its_own_environment_is_made_anew(
    setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch, state: dict[str, str], remade: bool
) -> None:
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 11))
    monkeypatch.setattr(setup_env, 'create_venv', lambda: None)
    setup_env.STATE.write_text(json.dumps(state))
    treasure = setup_env.VENV / 'treasure'
    treasure.touch()
    setup_env.make_venv()
    assert treasure.exists() != remade


def test_an_environment_for_another_python_is_made_anew(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 12))
    monkeypatch.setattr(setup_env, 'create_venv', lambda: None)
    setup_env.STATE.write_text(json.dumps({'made': 'here', 'venv': 'cp311'}))
    assert setup_env.make_venv().entries == {'made': 'here', 'venv': 'cp312'}


@pytest.mark.parametrize('version', [(3, 9), (3, 14)])
def test_unsupported_python(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
    monkeypatch.setattr(setup_env.sys, 'version_info', version)
    with pytest.raises(setup_env.SetupError, match='make PYTHON='):
        setup_env.check_python()


def test_torch_is_held_where_it_is(setup_env: ModuleType) -> None:
    lines = setup_env.constraints_with('2.11.0+cu130').read_text().splitlines()
    assert 'torch==2.11.0+cu130' in lines
    assert [line for line in lines if line.startswith('torch==')] == ['torch==2.11.0+cu130']
    assert setup_env.pinned('onedl-mmcv') in lines


def compiler_that_makes(name: str):
    """A stand-in for the minutes of compilation: writes the wheel into the folder behind -w."""

    def follow(command: list[str], environment: dict[str, str], log: Path) -> None:
        folder = Path(command[command.index('-w') + 1])
        (folder / name).write_text('wheel')
        if name == 'half':
            raise KeyboardInterrupt

    return follow


def test_compiled_ops_are_kept_for_this_torch(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    version = setup_env.pinned('onedl-mmcv').split('==')[1]
    name = f'onedl_mmcv-{version}-cp311-cp311-linux_x86_64.whl'
    monkeypatch.setattr(setup_env, 'follow_compiler', compiler_that_makes(name))
    assert setup_env.find_ops_wheel('2.13.0+cpu') is None
    wheel = setup_env.compile_ops('2.13.0+cpu', setup_env.CONSTRAINTS)
    assert wheel == setup_env.find_ops_wheel('2.13.0+cpu') and wheel.read_text() == 'wheel'
    assert wheel.parent.name == 'torch-2.13.0+cpu-cp311'
    assert setup_env.find_ops_wheel('2.14.0+cpu') is None


@pytest.mark.parametrize(
    ('name', 'error'), [('onedl_mmcv-2.3.6-py3-none-any.whl', RuntimeError), ('half', KeyboardInterrupt)]
)
def test_no_other_wheel_is_kept(
    setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    monkeypatch.setattr(setup_env, 'follow_compiler', compiler_that_makes(name))
    with pytest.raises(error):
        setup_env.compile_ops('2.13.0+cpu', setup_env.CONSTRAINTS)
    assert setup_env.find_ops_wheel('2.13.0+cpu') is None
    assert not list((tmp_path / 'cache').rglob('onedl*'))


@pytest.mark.parametrize('status', [0, 1])
def test_progress_of_the_compiler(
    setup_env: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, status: int
) -> None:
    lines = ['preparing', '  [1/2] c++ a.cpp', 'a warning', '  [2/2] c++ b.cpp']
    command = [sys.executable, '-c', f'print({chr(10).join(lines)!r}); raise SystemExit({status})']
    log = tmp_path / 'log'
    if status:
        with pytest.raises(setup_env.SetupError, match='apt-get install g'):
            setup_env.follow_compiler(command, {}, log)
    else:
        setup_env.follow_compiler(command, {}, log)
    assert log.read_text().splitlines() == lines
    assert '1/2 objects' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('there', 'user', 'commands'),
    [
        ({'chromium', 'apt-get'}, 0, []),
        ({'google-chrome'}, 1000, []),
        ({'apt-get'}, 0, ['apt-get update', 'apt-get install']),
        ({'apt-get'}, 1000, []),
        (set(), 0, []),
    ],
)
def test_chromium_is_installed_where_that_can_be_done(
    setup_env: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    there: set[str],
    user: int,
    commands: list[str],
) -> None:
    done = []
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: name if name in there else None)
    monkeypatch.setattr(setup_env.os, 'geteuid', lambda: user)
    monkeypatch.setattr(setup_env, 'run', lambda *words, **_: done.append(' '.join(words[:2])))
    setup_env.install_chromium()
    assert done == commands
    said = capsys.readouterr().out
    assert ('tests/test_web needs Chromium' in said) == (not commands and not there & set(setup_env.BROWSERS))
