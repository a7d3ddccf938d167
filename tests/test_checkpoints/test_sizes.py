"""Files that lie about their sizes, or hold what no checkpoint holds: a value or one sentence, in little memory."""

import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_checkpoints import Program, forget_peak, fuzz, make_seeds, mutated, peak
from mmengine.logging import HistoryBuffer
from test_checkpoints.test_malicious import name, text, write_zip

from mmvim.checkpoints import load_backbone, read
from mmvim.checkpoints.builders import EXPANDED_BYTES, SHARING, TABLE
from mmvim.checkpoints.class_names import MAX_CLASSES, class_names, colours
from mmvim.checkpoints.convert import convert
from mmvim.models.backbones.vim import Vim


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def saved(path: Path, content: Any, new_format: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    return path


def with_value(folder: Path, program: bytes) -> Path:
    """A file of a dict whose only value is what a program makes."""
    return write_zip(folder / 'a.pth', b'\x80\x02}' + text('a') + program + b's.')


FORMATS = pytest.mark.parametrize('new_format', [True, False], ids=['zip', 'legacy'])
TENSOR = (
    name('torch._utils', '_rebuild_tensor_v2')
    + b'('
    + b'('
    + text('storage')
    + name('torch', 'FloatStorage')
    + text('0')
    + text('cpu')
    + b'K%ctQK\x00(%st(%st\x89'
    + name('collections', 'OrderedDict')
    + b')RtR'
)


def tensor(size: bytes, stride: bytes, count: int = 1) -> bytes:
    return TENSOR % (count, size, stride)


def with_tensor(folder: Path, program: bytes, elements: int = 1) -> Path:
    """A file of a storage of ones and of what a program makes of it."""
    path = saved(folder / 'seed.pth', {'a': torch.ones(elements)})
    whole = folder / 'a.zip'
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(whole, 'w') as new:
        for entry in old.namelist():
            content = b'\x80\x02}' + text('a') + program + b's.' if entry.endswith('data.pkl') else old.read(entry)
            new.writestr(entry, content)
    return whole


# ------------------------------------------------------------------------------------------------------ tensors
HOOKS = {
    'a list': lambda: b'}' + text('_backward_hooks') + b'](K\x01es',
    'a number': lambda: b'}' + text('_backward_hooks') + b'K\x07s',
    'six entries': lambda: b'(\x89' + b'](K\x01e' + b'NNNNt',
    'attributes': lambda: b'N}' + text('grad_fn') + b'K\x01s\x86',
}


@pytest.mark.parametrize('state', HOOKS)
def test_tensors_have_no_hooks(tmp_path: Path, state: str) -> None:
    """Those that a file sets crash whoever uses the tensor."""
    ours = read(with_tensor(tmp_path, tensor(b'K\x01', b'K\x01') + HOOKS[state]() + b'b'))['a']
    assert ours._backward_hooks is None and vars(ours) == {}
    assert torch.equal((ours.requires_grad_() * 2).sum().detach(), torch.tensor(2.0))


def test_attributes_of_tensors_are_left_out(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.tag = [1]
    ours = read(saved(tmp_path / 'a.pth', {'a': parameter}))['a']
    assert isinstance(ours, torch.nn.Parameter) and ours.requires_grad and vars(ours) == {}


def test_expanded_tensor_of_4_gb(tmp_path: Path) -> None:
    large = torch.ones(1).expand(1 << 30)
    path = saved(tmp_path / 'a.pth', {'state_dict': {'a': large}})
    for action in (read, lambda file: convert(file, tmp_path / 'b.pth')):
        with pytest.raises(RuntimeError, match=r'a\.pth .*its tensors claim far more elements than the file has'):
            action(path)
    assert not (tmp_path / 'b.pth').exists()


def test_expanded_tensors_up_to_a_bound(tmp_path: Path) -> None:
    most = EXPANDED_BYTES // 4 // 2
    halves = [torch.ones(1).expand(most), torch.ones(1).expand(2, most // 2)]
    ours = read(saved(tmp_path / 'a.pth', {'a': halves}))['a']
    assert [tuple(half.shape) for half in ours] == [(most,), (2, most // 2)] and ours[0].stride() == (0,)
    with pytest.raises(RuntimeError, match='claim far more elements'):
        read(saved(tmp_path / 'a.pth', {'a': [*halves, torch.ones(1).expand(10)]}))


def test_storage_shared_by_many(tmp_path: Path) -> None:
    whole = torch.zeros(EXPANDED_BYTES // 64)
    ours = read(saved(tmp_path / 'a.pth', {'a': [whole[:] for _ in range(SHARING)]}))['a']
    assert len({part.data_ptr() for part in ours}) == 1
    with pytest.raises(RuntimeError, match='claim far more elements'):
        read(saved(tmp_path / 'a.pth', {'a': [whole[:] for _ in range(3 * SHARING)]}))


def test_tied_weights_are_converted_once(tmp_path: Path) -> None:
    whole = torch.rand(10_000)
    convert(saved(tmp_path / 'a.pth', {'state_dict': {'a': whole, 'b': whole[:]}}), tmp_path / 'b.pth')
    ours = read(tmp_path / 'b.pth')['state_dict']
    assert torch.equal(ours['a'], whole) and torch.equal(ours['b'], whole)
    assert (tmp_path / 'b.pth').stat().st_size < 50_000


@pytest.mark.parametrize(
    ('size', 'stride', 'count'),
    [
        (b'K\x02', b'K\x01', 1),
        (b'J\xff\xff\xff\xff', b'K\x01', 1),
        (b'K\x02', b'J\xff\xff\xff\xff', 1),
        (b'K\x01', b'', 1),
        (b'K\x01' * 40, b'K\x01' * 40, 1),
        (b'\x8a\x08' + b'\xff' * 7 + b'\x7f', b'K\x00', 1),
        (b'\x8a\x09' + bytes(8) + b'\x01', b'K\x00', 1),
        (b'G' + bytes(8), b'K\x01', 1),
        (b'K\x01', b'K\x01', 200),
    ],
    ids=['too many', 'negative', 'backwards', 'axes', '40 axes', 'huge', 'beyond', 'float', 'storage'],
)
def test_sizes_that_are_none(tmp_path: Path, size: bytes, stride: bytes, count: int) -> None:
    with pytest.raises(RuntimeError, match='is truncated, damaged or no checkpoint'):
        read(with_tensor(tmp_path, tensor(size, stride, count)))


# -------------------------------------------------------------------------------------------- archives and files
def test_compressed_records(tmp_path: Path) -> None:
    path = saved(tmp_path / 'a.pth', {'a': torch.zeros(1 << 20)})
    small = tmp_path / 'small.pth'
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(small, 'w', zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    with pytest.raises(RuntimeError, match=r'small\.pth .*a compressed record, which torch does not write'):
        read(small)


def changed_directory(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Change each entry of an archive's directory."""
    data = bytearray(path.read_bytes())
    at = data.find(b'PK\x01\x02')
    while at >= 0:
        change(data, at)
        at = data.find(b'PK\x01\x02', at + 1)
    path.write_bytes(data)


def set_sizes(data: bytearray, at: int) -> None:
    struct.pack_into('<2L', data, at + 20, 1 << 30, 1 << 30)


def set_places(data: bytearray, at: int) -> None:
    struct.pack_into('<L', data, at + 42, 1 << 30)


@pytest.mark.parametrize('change', [set_sizes, set_places])
def test_records_beyond_the_file(tmp_path: Path, change: Callable) -> None:
    path = saved(tmp_path / 'a.pth', {'a': torch.ones(100)})
    changed_directory(path, change)
    with pytest.raises(RuntimeError, match='records that are not in the file'):
        read(path)


def test_one_record_for_all(tmp_path: Path) -> None:
    """Many storages of the same bytes would take many times the memory of the file."""
    path = saved(tmp_path / 'a.pth', {'a': [torch.full((10_000,), float(i)) for i in range(20)]})
    data = path.read_bytes()
    first = struct.unpack_from('<L', data, data.find(b'PK\x01\x02') + 42)

    def same(data: bytearray, at: int) -> None:
        struct.pack_into('<2L', data, at + 20, 700_000, 700_000)
        struct.pack_into('<L', data, at + 42, *first)

    changed_directory(path, same)
    with pytest.raises(RuntimeError, match='records that are not in the file'):
        read(path)


def test_archive_within_a_tar(tmp_path: Path) -> None:
    """A file that is a zip archive to one reader and a tar archive to another one, with a pipe as its storages."""
    os.mkfifo(tmp_path / 'pipe')
    with tarfile.open(tmp_path / 'a.pth', 'w', format=tarfile.PAX_FORMAT) as tar:
        for entry in ('PK', 'storages', 'tensors', 'pickle'):
            tar.add(tmp_path / 'pipe', entry)
    for more in (b'', saved(tmp_path / 'b.pth', {}).read_bytes()):
        with (tmp_path / 'a.pth').open('ab') as file:
            file.write(more)
        assert 'is a tar archive' in str(failure(tmp_path / 'a.pth'))


def failure(path: Path) -> Exception | None:
    try:
        read(path)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        assert '\n' not in str(error)
        return error
    return None


def test_names_of_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    assert 'no checkpoint at' in str(failure(tmp_path / 'pipe'))
    assert 'no checkpoint at' in str(failure(tmp_path / 'a\0b'))
    sentence = str(failure(Path('a' * 5000)))
    assert sentence.endswith('a cannot be read: File name too long') and len(sentence) < 300
    path = saved(tmp_path / 'a.pth', {'model': {'a': torch.ones(1)}})
    with pytest.raises(ValueError, match='cannot be written: File name too long'):
        convert(path, tmp_path / ('b' * 5000))


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / 'a.pth', {})

    def forbidden(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'open', forbidden)
    with pytest.raises(ValueError, match=r'a\.pth cannot be read: Permission denied'):
        read(path)


@FORMATS
def test_memory_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_format: bool) -> None:
    path = saved(tmp_path / 'a.pth', {'a': torch.ones(5)}, new_format)

    real = torch.empty

    def none(size: Any, **options: Any) -> torch.Tensor:
        if size == (0,):
            return real(size, **options)
        raise RuntimeError('not enough memory: you tried to allocate 20 bytes')

    monkeypatch.setattr(torch, 'empty', none)
    with pytest.raises(RuntimeError, match=r'a\.pth \(\d+ bytes\) takes more memory than there is'):
        read(path)


def test_sharing_among_formats_is_kept(tmp_path: Path) -> None:
    """Views of one storage are views of one storage again, in files before archives too."""
    whole = torch.arange(6.0)
    for new in (True, False):
        ours = read(saved(tmp_path / 'a.pth', {'whole': whole, 'part': whole[2:4]}, new))
        ours['whole'][3] = 7
        assert ours['part'].tolist() == [2, 7]


def test_long_archive_before_archives(tmp_path: Path) -> None:
    """Pickles of more than what is read at first."""
    content = {'a': 'x' * 3_000_000, 'b': torch.arange(5)}
    ours = read(saved(tmp_path / 'a.pth', content, new_format=False))
    assert ours['a'] == content['a'] and torch.equal(ours['b'], content['b'])


# ----------------------------------------------------------------------------------------------------- programs
def chain(links: int) -> bytes:
    return b')' + b'2\x86' * links


LARGE = {
    'set of a range': name('builtins', 'set') + name('builtins', 'range') + b'\x8a\x05' + bytes(4) + b'\x20\x85R\x85R',
    'range': name('builtins', 'range') + b'\x8a\x05' + bytes(4) + b'\x20\x85R',
    'counter of a range': name('collections', 'Counter') + name('builtins', 'range') + b'M\xff\xff\x85R\x85R',
    'counter': name('collections', 'Counter') + b'}K\x08\x8a\x05' + bytes(4) + b'\x20s\x85R',
    'numbers of sizes': name('numpy.core.multiarray', '_reconstruct')
    + b')R(K\x01('
    + text('a' * 100)
    + b'J\xff\xff\xff\x7ft'
    + name('numpy', 'dtype')
    + text('f8')
    + b'\x85R\x89](K\x01etb',
    'bytes': b'B\xff\xff\xff\x7fabc',
    'long bytes': b'\x8e' + struct.pack('<Q', 1 << 40) + b'abc',
    'buffer': b'\x96' + struct.pack('<Q', 1 << 40) + b'abc',
    'text': b'X\xff\xff\xff\x7fabc',
    'number': b'\x8b\xff\xff\xff\x7f',
    'digits': b'L' + b'9' * 100_000 + b'L\n',
    'nested keys': b'}' + chain(60) + b'Ns',
    'nested members': b'\x8f(' + chain(60) + b'\x90',
    'nested slices': b'N' + (b'r\x01\x00\x00\x000' + name('builtins', 'slice') + b'j\x01\x00\x00\x00\x85R') * 2,
    'unfolding': b']'
    + b'r\x01\x00\x00\x000]('
    + b'j\x01\x00\x00\x00' * 9
    + b'e'
    + b''.join(b'r%b0](' % struct.pack('<I', i) + b'j%b' % struct.pack('<I', i) * 9 + b'e' for i in range(2, 12)),
    'itself': b']r\x01\x00\x00\x00j\x01\x00\x00\x00a',
    'deep lists': b']' * 300_000 + b'a' * 299_999,
    'deep tuples': b')' + b'\x85' * 300_000,
    'deep dicts': (b'}' + text('a')) * 200_000 + b'N' + b's' * 200_000,
    'many objects': b'(' + b'\x8f' * 3_000_000 + b'l',
    'repeated copies': name('_codecs', 'encode')
    + b'r\x01\x00\x00\x000'
    + text('a' * 10_000_000)
    + b'r\x02\x00\x00\x000]('
    + (b'j\x01\x00\x00\x00j\x02\x00\x00\x00' + text('latin1') + b'\x86R') * 50
    + b'e',
}


@pytest.mark.parametrize('program', LARGE)
def test_programs_that_would_be_large(tmp_path: Path, program: str) -> None:
    path = with_value(tmp_path, LARGE[program])
    forget_peak()
    before = peak()[1]
    with pytest.raises(RuntimeError, match=r'is truncated, damaged or no checkpoint') as caught:
        read(path)
    assert peak()[0] - before < 512 << 20
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


def test_numbers_of_what_is_remembered(tmp_path: Path) -> None:
    """Python's own machine takes 32 GB for this one."""
    forget_peak()
    before = peak()[1]
    assert read(with_value(tmp_path, b'Nr\xff\xff\xff\x7f')) == {'a': None}
    assert peak()[0] - before < 100 << 20


def test_small_ones_of_the_same_kinds(tmp_path: Path) -> None:
    content = {
        'range': range(3, 99, 2),
        'set': {1, 2, (3, 4)},
        'frozen': frozenset(['a']),
        'counter': Counter({3: 2}),
        'slice': slice(1, None),
        'complex': 1 + 2j,
        'shared': [[1]] * 3,
        'keys': {(1, 'a'): 1, None: 2, 2.5: 3, -(2**40): 4},
        'large': 2**200,
        'size': torch.Size([1, 2]),
        'device': torch.device('cuda', 1),
        'wide': 'ä\N{SNOWMAN}' * 1000,
    }
    for protocol in range(6):
        path = tmp_path / 'a.pth'
        torch.save(deepcopy(content), path, pickle_protocol=protocol or 2)
        assert read(path) == content
    for protocol in (0, 1):
        path = write_zip(tmp_path / 'b.pth', pickle.dumps({'a': [1, 2.5, 'x\n', None, True], 'b': {}}, protocol))
        assert read(path) == {'a': [1, 2.5, 'x\n', None, True], 'b': {}}


def test_history_of_rows_only(tmp_path: Path) -> None:
    nested: list = [1]
    for _ in range(9):
        nested = [nested] * 10
    for values in (nested, ['a'], [[1, 2]]):
        with pytest.raises(RuntimeError, match='damaged'):
            read(saved(tmp_path / 'a.pth', {'a': Call(HistoryBuffer, values, [1])}))


def test_arrays_hold_no_containers(tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[0] = [1]
    with pytest.raises(RuntimeError, match='item of an array is an object of list'):
        read(saved(tmp_path / 'a.pth', {'a': array}))


# -------------------------------------------------------------------------------- what is made of a file afterwards
def test_class_names() -> None:
    assert class_names(('sky', 'road')) == ['sky', 'road'] and colours([[1, 2, 3]]) == [(1, 2, 3)]
    for wrong in (['a', ['b']], 'ab', [1], ['a' * 1001], ['a'] * (MAX_CLASSES + 1), {'a': 1}, [[['a']]]):
        with pytest.raises(ValueError, match='names of classes are no flat list of texts'):
            class_names(wrong)
    for wrong in ([1, 2, 3], [[1, 2]], [[1, 2, 256]], [[1, 2, 'a']], [[1, 2, [3]]]):
        with pytest.raises(ValueError, match='colours of classes are no flat list'):
            colours(wrong)


def nested(kind: str) -> Any:
    names: list = ['a']
    if kind == 'within itself':
        names.append(names)
    for _ in range({'deep': 90, 'shared': 6}.get(kind, 0)):
        names = [names] if kind == 'deep' else [names] * 10
    return names


@pytest.mark.parametrize('kind', ['deep', 'shared', 'within itself'])
def test_classes_that_nest(tmp_path: Path, kind: str) -> None:
    meta = {'dataset_meta': {'classes': nested(kind)}}
    path = saved(tmp_path / 'a.pth', {'state_dict': {'a': torch.ones(1)}, 'meta': meta})
    with pytest.raises((ValueError, RuntimeError), match=r'a\.pth.*(flat list of texts|contains itself)'):
        convert(path, tmp_path / 'b.pth')


@pytest.mark.parametrize('table', [torch.ones(1, 4, 16, dtype=torch.complex64), torch.ones(4, 16), torch.ones(4)])
def test_position_embedding_that_is_none(tmp_path: Path, table: torch.Tensor) -> None:
    model = Vim({'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}, pretrain_img_size=48)
    path = saved(tmp_path / 'a.pth', {'state_dict': OrderedDict(model.state_dict(), pos_embed=table)})
    with pytest.raises(RuntimeError, match=r'a\.pth: pos_embed must be \(1, n, C\) of real numbers, got'):
        load_backbone(model, path)


def test_names_and_shapes_that_are_none(tmp_path: Path) -> None:
    model = Vim({'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16})
    state = model.state_dict()
    path = tmp_path / 'a.pth'
    saved(path, {'state_dict': {**state, 'layers.0x.a': torch.ones(1), 'patch_embed.proj.weight': torch.tensor(1.0)}})
    with pytest.raises(RuntimeError, match=r'a\.pth holds a Vim of strange names or shapes'):
        load_backbone(model, path)
    for strange in ('a\nb', 'a' * 1000):
        with pytest.raises(ValueError, match=r'a\.pth: the name .* of a tensor is no short line of text'):
            load_backbone(model, saved(path, {'state_dict': {strange: torch.ones(1)}}))


# -------------------------------------------------------------------------------------------------------- fuzzing
def test_files_that_were_not_thought_of(tmp_path: Path) -> None:
    make_seeds(tmp_path)
    results, failed, seconds, _ = fuzz(tmp_path, 0, 60)
    assert not failed and results.total() == 60 and seconds < 10
    assert results['value'] >= 3 and results['damaged'] >= 20


def test_fuzzer_writes_what_it_says() -> None:
    names = [*TABLE]
    program = Program(random.Random(3), names, 4).whole()
    assert program == Program(random.Random(3), names, 4).whole() != Program(random.Random(4), names, 4).whole()
    assert mutated(random.Random(0), program, 3) != program
