"""The two formats of torch's files: a zip archive of records, and formerly pickles in a row with the data behind them.

Both come down to the same: a pickle, and for each key of a storage the place of its bytes in the file. What the file
says about sizes is compared with its own size before memory is taken.
"""

import os
import struct
import sys
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from mmvim.machine import no_garbage_collection

from .builders import Budget, StorageType
from .unpickle import Truncated, check_nesting, run

Place = tuple[int, int]  # of bytes in a file: where, and how many
Restore = Callable[[torch.UntypedStorage, str], torch.UntypedStorage]

#: Bytes of a pickle; the log of a very long run has a tenth.
MAX_PROGRAM = 256 << 20
MAX_RECORDS = 200_000
_FIRST_PART = 1 << 20
_COMPRESSED = -1

_END = struct.Struct('<4s4H2LH')
_END64_PLACE = struct.Struct('<4sLQL')
_END64 = struct.Struct('<4sQ2H2L4Q')
_ENTRY = struct.Struct('<4s6H3L5H2L')
_HEADER = struct.Struct('<4s5H3L2H')


class TorchScript(UnpicklingError):
    """The file is a program."""


def load(file: BinaryIO, map_location: Any) -> Any:
    """Read what was saved in an open file, of either format.

    Args:
        file: at its beginning, unbuffered.
        map_location: as in ``torch.load``.

    Raises:
        TorchScript: if it is a program.
        Refused: if it asks to run something.
        MemoryError: if a tensor is larger than the memory.
        Exception: of many kinds, if it is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    is_zip = file.read(4) == b'PK\x03\x04'
    with no_garbage_collection():
        return (_load_zip if is_zip else _load_legacy)(file, size, map_location)


class _Storages:
    """The storages of a file, each read once, when a tensor asks for it.

    Args:
        file: to read from.
        places: where the bytes of each key are.
        map_location: as in ``torch.load``.
        swap: whether the bytes of numbers have the order of another machine.
    """

    def __init__(self, file: BinaryIO, places: dict[str, Place], map_location: Any, swap: bool = False) -> None:
        self._file = file
        self._places = places
        self._meta = str(map_location) == 'meta'
        self._restore: Restore = torch.serialization._get_restore_location(map_location)
        self._swap = swap
        self._loaded: dict[str, torch.storage.TypedStorage] = {}
        self._views: dict[str, torch.storage.TypedStorage] = {}

    def __call__(self, saved: tuple) -> torch.storage.TypedStorage:
        """The storage of a persistent id: (type, key, location, number of elements[, part of it])."""
        kind, key, location, count, *part = saved
        if not isinstance(kind, StorageType) or not isinstance(key, str) or not isinstance(count, int):
            raise UnpicklingError('a storage without type, key and size')
        if key not in self._loaded:
            self._loaded[key] = _typed(self._read(key, count * kind.dtype.itemsize, kind.dtype, location), kind.dtype)
        whole = self._loaded[key]
        return self._part(whole, *part[0]) if part and part[0] is not None else whole

    def _read(self, key: str, size: int, dtype: torch.dtype, location: Any) -> torch.UntypedStorage:
        at, available = self._places[key]
        if not 0 <= size <= available:
            raise UnpicklingError(f'a storage of {size} bytes where the file has {available}')
        if self._meta:
            return torch.UntypedStorage(size, device='meta')
        try:
            content = torch.empty(size, dtype=torch.uint8)
        except RuntimeError as error:  # torch's form of it
            raise MemoryError from error
        _fill(self._file, at, memoryview(content.numpy()))
        storage = content.untyped_storage()
        if self._swap:
            storage.byteswap(dtype)
        return self._restore(storage, location.decode('ascii') if isinstance(location, bytes) else location)

    def _part(self, whole: torch.storage.TypedStorage, key: str, at: int, count: int) -> torch.storage.TypedStorage:
        """A part of a storage, which the first versions of torch shared among tensors so."""
        if key not in self._views:
            size, untyped = whole.dtype.itemsize, whole._untyped_storage
            if not 0 <= at * size <= (at + count) * size <= untyped.nbytes():
                raise UnpicklingError('a part of a storage that is not in it')
            self._views[key] = _typed(untyped[at * size : (at + count) * size], whole.dtype)
        return self._views[key]


def _fill(file: BinaryIO, at: int, content: memoryview) -> None:
    file.seek(at)
    while content:
        count = file.readinto(content)  # an unbuffered file gives 2 GiB at most
        if not count:
            raise Truncated
        content = content[count:]


def _typed(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.storage.TypedStorage:
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


# ------------------------------------------------------------------------------------------------ zip archives
def _load_zip(file: BinaryIO, size: int, map_location: Any) -> Any:
    entries = _directory(file, size)
    folder = next(iter(entries)).partition('/')[0] + '/'
    if folder + 'constants.pkl' in entries:
        raise TorchScript('a program')
    program = _content(file, entries, folder + 'data.pkl', MAX_PROGRAM)
    order = b'little'
    if folder + 'byteorder' in entries:
        order = _content(file, entries, folder + 'byteorder', 16)
    if order not in (b'little', b'big'):
        raise UnpicklingError(f'the byte order {order!r}')
    data = folder + 'data/'
    places = {name.removeprefix(data): entries[name] for name in entries if name.startswith(data)}
    places = _Places(file, places)
    storages = _Storages(file, places, map_location, swap=order.decode() != sys.byteorder)
    value, _ = run(program, 0, storages, Budget(len(program), size))
    check_nesting(value)
    return value


class _Places(dict):
    """Places of records, by their headers; looked up when they are asked for."""

    def __init__(self, file: BinaryIO, headers: dict[str, Place]) -> None:
        super().__init__(headers)
        self._file = file

    def __getitem__(self, key: str) -> Place:
        if key not in self:
            raise UnpicklingError('a storage that is not in the file')
        return _place(self._file, super().__getitem__(key))


def _content(file: BinaryIO, entries: dict[str, Place], name: str, limit: int) -> bytes:
    """A record, whole."""
    if name not in entries:
        raise UnpicklingError(f'no record {name.rpartition("/")[2]}')
    at, size = _place(file, entries[name])
    if size > limit:
        raise UnpicklingError(f'{name.rpartition("/")[2]} of {size} bytes, more than {limit}')
    found = bytearray(size)
    _fill(file, at, memoryview(found))
    return bytes(found)


def _place(file: BinaryIO, header: Place) -> Place:
    """Where the content of a record is whose header is at a place."""
    at, size = header
    if size == _COMPRESSED:
        raise UnpicklingError('a compressed record, which torch does not write')
    file.seek(at)
    sign, *_, name, extra = _HEADER.unpack(file.read(_HEADER.size))
    if sign != b'PK\x03\x04':
        raise UnpicklingError('a record without a header')
    return at + _HEADER.size + name + extra, size


def _directory(file: BinaryIO, size: int) -> dict[str, Place]:
    """Name -> (where its header is, bytes of its content) of all records of a zip archive.

    Raises:
        UnpicklingError: if the archive is cut off, compressed, or its records are longer together than the file.
    """
    start, length, count = _end(file, size)
    if count > MAX_RECORDS:
        raise UnpicklingError(f'{count} records, more than {MAX_RECORDS}')
    file.seek(start)
    directory = file.read(length)
    entries: dict[str, Place] = {}
    at = total = 0
    for _ in range(count):
        (sign, _, _, flags, method, *_, stored, full, name_length, extra_length, comment, _, _, _, header) = (
            _ENTRY.unpack_from(directory, at)
        )
        at += _ENTRY.size
        name = directory[at : at + name_length].decode()
        extra = directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment
        if 0xFFFFFFFF in (stored, full, header):
            full, stored, header = _wide(extra, full, stored, header)
        if sign != b'PK\x01\x02' or flags & 1:
            raise UnpicklingError('a damaged or encrypted record')
        if method or stored != full:  # torch compresses nothing but programs
            full = _COMPRESSED
        total += max(full, 0)
        if header + full > size or total > size or name in entries:
            raise UnpicklingError('records that are not in the file, or are twice')
        entries[name] = header, full
    if not entries:
        raise UnpicklingError('an empty archive')
    return entries


def _end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the directory of a zip archive is, its length, and the number of its entries."""
    tail_at = max(0, size - 0xFFFF - _END.size)
    file.seek(tail_at)
    tail = file.read(size - tail_at)
    at = tail.rfind(b'PK\x05\x06', 0, len(tail) - _END.size + 4)
    if at < 0:
        raise UnpicklingError('the end of the archive is missing')
    *_, count, length, start, _ = _END.unpack_from(tail, at)
    if 0xFFFFFFFF in (length, start) or count == 0xFFFF:
        place = tail_at + at - _END64_PLACE.size
        if place < 0:
            raise UnpicklingError('the end of the archive is damaged')
        file.seek(place)
        _, _, end, _ = _END64_PLACE.unpack(file.read(_END64_PLACE.size))
        if end + _END64.size > size:
            raise UnpicklingError('the end of the archive is damaged')
        file.seek(end)
        sign, *_, count, length, start = _END64.unpack(file.read(_END64.size))
        if sign != b'PK\x06\x06':
            raise UnpicklingError('the end of the archive is damaged')
    if start + length > size:
        raise UnpicklingError('the directory of the archive is not in it')
    return start, length, count


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """Numbers of an entry, those that did not fit taken from its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from('<2H', extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f'<{length // 8}Q', extra, at + 4))
            return [next(wide, number) if number == 0xFFFFFFFF else number for number in numbers]
        at += 4 + length
    raise UnpicklingError('a record without its size')


# ---------------------------------------------------------------------------------------------- before archives
def _load_legacy(file: BinaryIO, size: int, map_location: Any) -> Any:
    """Pickles of a sign, a version, the machine, the object and the keys; then the storages' lengths and bytes."""
    length = _FIRST_PART
    while True:
        file.seek(0)
        head = file.read(min(length, size, MAX_PROGRAM))
        try:
            return _run_legacy(file, head, size, map_location)
        except Truncated:
            if len(head) in (size, MAX_PROGRAM):
                raise
            length *= 8


def _run_legacy(file: BinaryIO, head: bytes, size: int, map_location: Any) -> Any:
    at = 0
    for sign in (MAGIC_NUMBER, PROTOCOL_VERSION, None):
        found, at = run(head, at, _no_storage, Budget(0, 0))
        if sign is not None and found != sign:
            raise UnpicklingError('no sign of a checkpoint at its beginning')
    # Run twice: only behind the pickle the file says where the storages in it are.
    sizes = _Sizes()
    _, end = run(head, at, sizes, Budget(len(head), size))
    keys, place = run(head, end, _no_storage, Budget(len(head), 0))
    if not isinstance(keys, list) or len(set(map(str, keys))) != len(sizes.items) or len(keys) != len(sizes.items):
        raise UnpicklingError('a list of storages that is not the one of the object')
    places: dict[str, Place] = {}
    for key in keys:
        item = sizes.items[key]
        file.seek(place)
        (count,) = struct.unpack('<q', file.read(8))
        place += 8
        if not 0 <= count <= (size - place) // item:
            raise Truncated
        places[key] = place, count * item
        place += count * item
    value, _ = run(head, at, _Storages(file, places, map_location), Budget(len(head), size))
    check_nesting(value)
    return value


class _Sizes:
    """Takes the bytes of an element of each storage that an object has; gives storages without content."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def __call__(self, saved: tuple) -> torch.storage.TypedStorage:
        kind, key, _, count, *_ = saved
        if not isinstance(kind, StorageType) or not isinstance(key, str) or not isinstance(count, int):
            raise UnpicklingError('a storage without type, key and size')
        self.items.setdefault(key, kind.dtype.itemsize)
        if not 0 <= count < 1 << 48:
            raise UnpicklingError(f'a storage of {count} elements')
        return _typed(torch.UntypedStorage(count * kind.dtype.itemsize, device='meta'), kind.dtype)


def _no_storage(_: tuple) -> None:
    raise UnpicklingError('a storage where none is')
