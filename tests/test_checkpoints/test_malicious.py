"""Files that ask for code to be run: nothing runs, on any path, and they are refused by name.

Each attack would create a marker file. Attacks are saved by torch, or written opcode by opcode where no honest
pickler would write them.
"""

import builtins
import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, checkpoint
from mmengine.runner import load_checkpoint as mmengine_load

from mmvim.checkpoints import load_backbone, read, read_safely_everywhere
from mmvim.checkpoints.builders import TABLE
from mmvim.checkpoints.convert import convert
from mmvim.models.backbones.vim import Vim


def touch(path: str) -> None:
    """A function of a module that the reader knows nothing of."""
    Path(path).touch()


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


class CallWithState(Call):
    """Pickles as the call of a function, with items and a state for its result."""

    def __reduce__(self) -> tuple:
        return (*self.call, {'a': 1}, iter([1]), iter([('a', 1)]))


class Popen(Call):
    """Pickles as the construction of a process: a class, not a function."""


CODE = 'open({!r}, "w").close()'
ATTACKS: dict[str, tuple[Callable[[str], Any], str]] = {
    'os.system': (lambda marker: Call(os.system, f'touch {marker}'), r'(posix|nt)\.system'),
    'nested': (lambda marker: [{'a': (1, {'b': Call(os.system, f'touch {marker}')})}], r'(posix|nt)\.system'),
    'with state': (lambda marker: CallWithState(os.system, f'touch {marker}'), r'(posix|nt)\.system'),
    'eval': (lambda marker: Call(eval, CODE.format(marker)), r'builtins\.eval'),
    'exec': (lambda marker: Call(exec, CODE.format(marker)), r'builtins\.exec'),
    'open': (lambda marker: Call(open, marker, 'w'), r'_?io\.open'),
    'Popen': (lambda marker: Popen(subprocess.Popen, ['touch', marker]), r'subprocess\.Popen'),
    'method': (lambda marker: Call(Path(marker).touch), r'pathlib\.PosixPath\.touch'),
    'own function': (lambda marker: Call(touch, marker), r'[\w.]*test_malicious\.touch'),
    'dict key': (lambda marker: {Call(os.system, f'touch {marker}'): 1}, r'(posix|nt)\.system'),
    'import': (lambda marker: Call(__import__, 'antigravity'), r'builtins\.__import__'),
    'torch.load': (lambda marker: Call(torch.load, marker), r'torch\.serialization\.load'),
    'storage bytes': (lambda marker: Call(torch.storage._load_from_bytes, b''), r'torch\.storage\._load_from_bytes'),
    'rebuild of': (
        lambda marker: Call(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (f'touch {marker}',), ()),
        r'(posix|nt)\.system',
    ),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / 'marker'
    yield path
    assert not path.exists(), 'code from the file ran'


def save_attack(attack: Any, path: Path, new_format: bool = True) -> Path:
    content = {'state_dict': {'weight': torch.ones(2)}, 'meta': attack}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    return path


@pytest.mark.parametrize('new_format', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('name', ATTACKS)
def test_attacks(tmp_path: Path, marker: Path, name: str, new_format: bool) -> None:
    make, named = ATTACKS[name]
    path = save_attack(make(str(marker)), tmp_path / 'a.pth', new_format)
    with pytest.raises(RuntimeError, match=rf'a\.pth was refused: it asks to run {named}, and nothing'):
        read(path)


def test_the_attacks_are_real(tmp_path: Path) -> None:
    path = tmp_path / 'marker'
    for name in ('os.system', 'exec', 'own function', 'with state'):
        attack = ATTACKS[name][0](str(path))
        try:
            torch.load(save_attack(attack, tmp_path / 'a.pth'), weights_only=False)
        except AttributeError:  # the state does not fit the result of os.system
            assert name == 'with state'
        assert path.exists(), name
        path.unlink()


PATHS: dict[str, Callable[[Path], Any]] = {
    'read': read,
    'init_cfg': lambda path: Vim('tiny', init_cfg={'type': 'Pretrained', 'checkpoint': str(path)}).init_weights(),
    'load_backbone': lambda path: load_backbone(torch.nn.Linear(1, 1), path),
    'convert': lambda path: convert(path, path.with_name('b.pth')),
    'mmengine loader': lambda path: CheckpointLoader.load_checkpoint(str(path)),
    'mmengine init_cfg': lambda path: mmengine_load(torch.nn.Linear(1, 1), str(path)),
    'mmengine object store': lambda path: checkpoint._safe_torch_load(io.BytesIO(path.read_bytes())),
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('load_from_http', '_safe_torch_load'):
        monkeypatch.setattr(checkpoint, name, getattr(checkpoint, name))
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
    read_safely_everywhere()


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('way', PATHS)
def test_every_path(tmp_path: Path, marker: Path, way: str) -> None:
    path = save_attack(Call(os.system, f'touch {marker}'), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match='was refused: it asks to run'):
        PATHS[way](path)
    assert not (tmp_path / 'b.pth').exists()


@pytest.mark.usefixtures('installed')
def test_installed_loader_reads(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'weight': torch.ones(1)}}, path)
    for way in ('mmengine loader', 'mmengine object store'):
        assert torch.equal(PATHS[way](path)['state_dict']['weight'], torch.ones(1))


@pytest.mark.usefixtures('installed')
def test_installed_loader_knows_the_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'weights').mkdir()
    torch.save({'a': torch.ones(1)}, 'weights/a.pth')
    assert torch.equal(CheckpointLoader.load_checkpoint('a.pth')['a'], torch.ones(1))
    with pytest.raises(FileNotFoundError, match='download it from'):
        CheckpointLoader.load_checkpoint('weights/vim_s_midclstok_80p5acc.pth')


@pytest.mark.usefixtures('installed')
def test_installed_loader_takes_addresses_and_zoos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'weights').mkdir()
    torch.save({'a': torch.ones(1)}, 'weights/a.pth')
    monkeypatch.setattr(checkpoint, 'get_external_models', lambda: {'zoo_name': 'https://example.org/a.pth'})
    for source in ('https://example.org/a.pth', 'openmmlab://zoo_name'):
        assert torch.equal(CheckpointLoader.load_checkpoint(source)['a'], torch.ones(1))


# ---------------------------------------------------------------------------- opcodes that no pickler would write
def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return b'c' + f'{module}\n{attribute}\n'.encode()


def write_zip(path: Path, program: bytes) -> Path:
    """A file of torch's format with the program as its pickle."""
    torch.save({}, path)
    whole = path.with_suffix('.zip')
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(whole, 'w') as new:
        for entry in old.namelist():
            new.writestr(entry, program if entry.endswith('data.pkl') else old.read(entry))
    return whole


def system(marker: Path) -> bytes:
    return f'touch {marker}'.encode()


PROGRAMS: dict[str, Callable[[Path], bytes]] = {
    'REDUCE': lambda m: name('os', 'system') + text(f'touch {m}') + b'\x85R.',
    'OBJ': lambda m: b'(' + name('os', 'system') + text(f'touch {m}') + b'o.',
    'INST': lambda m: b'(' + text(f'touch {m}') + b'ios\nsystem\n.',
    'NEWOBJ': lambda m: name('subprocess', 'Popen') + b'(' + text('touch') + text(f'{m}') + b'l\x85\x81.',
    'STACK_GLOBAL': lambda m: b'\x80\x04' + text('os') + text('system') + b'\x93' + text(f'touch {m}') + b'\x85R.',
    'dotted name': lambda m: b'\x80\x04' + text('torch') + text('os.system') + b'\x93' + text(f'touch {m}') + b'\x85R.',
    'dotted from an allowed one': lambda m: (
        b'\x80\x04' + text('collections') + text('OrderedDict.__init__.__globals__') + b'\x93)R.'
    ),
    'getattr': lambda m: (
        name('builtins', 'getattr') + name('numpy', 'os') + text('system') + b'\x86R' + text(f'touch {m}') + b'\x85R.'
    ),
    'Python 2 name': lambda m: name('__builtin__', 'execfile') + text(f'{m}') + b'\x85R.',
    'function as a state': lambda m: name('collections', 'OrderedDict') + b')R' + name('os', 'system') + b'b.',
}


@pytest.mark.parametrize('program', PROGRAMS)
def test_programs(tmp_path: Path, marker: Path, program: str) -> None:
    path = write_zip(tmp_path / 'a.pth', PROGRAMS[program](marker))
    with pytest.raises(RuntimeError, match='was refused: it asks to run'):
        read(path)


def test_plain_pickle(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(Call(os.system, f'touch {marker}')))
    with pytest.raises(RuntimeError, match='was refused'):
        read(path)


def test_class_that_is_named_as_an_allowed_one(tmp_path: Path, marker: Path) -> None:
    """A planted module whose classes do harm when they are built; their names alone are those of harmless ones."""
    planted = types.ModuleType('planted')
    for allowed in ('OrderedDict', 'HistoryBuffer', 'Size', '_rebuild_tensor_v2'):
        body = {'__module__': 'planted', '__setstate__': lambda self, state: touch(str(marker))}
        setattr(planted, allowed, type(allowed, (), body))
    sys.modules['planted'] = planted
    try:
        objects = [vars(planted)[allowed]() for allowed in ('OrderedDict', 'HistoryBuffer', 'Size')]
        for item in objects:
            item.a = 1
        ours = read(save_attack(objects, tmp_path / 'a.pth'))
    finally:
        del sys.modules['planted']
    assert [repr(item) for item in ours['meta']] == [
        f'<planted.{allowed}, left out>' for allowed in ('OrderedDict', 'HistoryBuffer', 'Size')
    ]


BUILDS = {
    'function': name('torch._utils', '_rebuild_tensor_v2'),
    'class': name('mmengine.logging.history_buffer', 'HistoryBuffer'),
    'storage': name('torch.storage', 'UntypedStorage'),
    'dtype': name('torch', 'float32'),
}


@pytest.mark.parametrize('target', BUILDS)
def test_state_for_what_the_reader_uses_itself(tmp_path: Path, target: str) -> None:
    """BUILD with a state (None, {...}) sets attributes of whatever it is given, of classes and functions as well."""
    before = [dict(vars(entry)) for entry in (HistoryBuffer, torch.UntypedStorage, torch.Tensor)]
    table = {key: dict(vars(value)) for key, value in TABLE.items()}
    state = b'N}' + text('_build') + name('planted', 'Thing') + b's\x86b'
    with pytest.raises(RuntimeError, match='damaged'):
        read(write_zip(tmp_path / 'a.pth', BUILDS[target] + state + b'.'))
    assert before == [dict(vars(entry)) for entry in (HistoryBuffer, torch.UntypedStorage, torch.Tensor)]
    assert table == {key: dict(vars(value)) for key, value in TABLE.items()}


def test_history_buffer_brings_no_functions(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1.0], [1])
    before = dict(HistoryBuffer._statistics_methods)
    buffer._statistics_methods = {'min': touch, 'planted': touch}
    ours = read(save_attack(buffer, tmp_path / 'a.pth'))['meta']
    assert HistoryBuffer._statistics_methods == before and ours._statistics_methods == before
    assert ours.statistics('min') == 1.0


def test_numpy_object_array_shorter_than_its_shape(tmp_path: Path) -> None:
    """numpy itself reads past the end of the list here."""
    array = np.empty(2, object)
    array[:] = ['a', 'b']
    (_, _, state), honest = array.__reduce__(), save_attack(array, tmp_path / 'honest.pth')
    assert read(honest)['meta'].tolist() == ['a', 'b']

    class Short:
        def __reduce__(self) -> tuple:
            build, args, (version, _, dtype, fortran, items) = array.__reduce__()
            return build, args, (version, (1000,), dtype, fortran, items)

    assert state[1] == (2,)
    with pytest.raises(RuntimeError, match='array of shape'):
        read(save_attack(Short(), tmp_path / 'short.pth'))


def test_numpy_dtype_with_planted_flags(tmp_path: Path) -> None:
    """Raw bytes taken for object pointers, which a dtype restored by numpy may be told to do."""

    class Pointers:
        def __reduce__(self) -> tuple:
            build, args, _ = np.empty(1, object).__reduce__()
            return build, args, (1, (1,), np.dtype(object), False, b'\x41' * 8)

    with pytest.raises(RuntimeError, match="numpy dtype 'O8'"):
        read(save_attack(Pointers(), tmp_path / 'a.pth'))


def test_old_form_of_modules_writes_no_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files bring the source of their modules; torch compares it, and writes what differs to a file they name."""
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    pickle.dump(torch.serialization.MAGIC_NUMBER, stream, 2)
    pickle.dump(torch.serialization.PROTOCOL_VERSION, stream, 2)
    pickle.dump({}, stream, 2)
    module = name('collections', 'OrderedDict') + b')R' + b'}' + text('dump_patches') + b'\x88s' + b'b'
    stream.write(b'\x80\x02(' + text('module') + module + text('file.py') + text('source') + b'tQ.')
    pickle.dump([], stream, 2)
    (tmp_path / 'a.pth').write_bytes(stream.getvalue())
    with pytest.raises(RuntimeError, match='persistent object that is no storage'):
        read(tmp_path / 'a.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_torchscript_and_tar(tmp_path: Path) -> None:
    path = tmp_path / 'a.pt'
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(RuntimeError, match='refused: it is a TorchScript program'):
        read(path)
    import tarfile

    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        tar.add(path, 'storages')
    with pytest.raises(ValueError, match='is a tar archive'):
        read(tmp_path / 'a.tar')


def test_nothing_but_the_table_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module that a file names is imported."""
    content = [OrderedDict(a=torch.ones(1)), Path('x'), types.SimpleNamespace(a=1)]
    path = save_attack(content, tmp_path / 'a.pth')
    program = write_zip(tmp_path / 'b.pth', name('antigravity', 'Thing') + b')R0' + b'}.')
    imported = []
    real = builtins.__import__
    monkeypatch.setattr(builtins, '__import__', lambda module, *args: imported.append(module) or real(module, *args))
    read(path)
    read(program)
    assert 'antigravity' not in imported and 'antigravity' not in sys.modules and 'this' not in sys.modules
