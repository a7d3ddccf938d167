"""A pickle machine that builds tensors and plain containers, and runs nothing that a file names.

A pickle is a program: it names importable things (GLOBAL) and calls them (REDUCE), numbers what it remembers, and
says how long its texts are. Python's own machine believes it: it gives attributes to any object (BUILD on a tensor
sets hooks), allocates a memory of the size of the largest number, and hashes tuples as deep as they go. This one
knows the opcodes that plain containers and the objects of :mod:`.builders` need, and counts.

The result has no cycles, is not deep, and stays small when it is unfolded (:func:`check_nesting`), so that whoever
copies, prints or walks it afterwards comes to an end.
"""

import struct
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from codecs import escape_decode
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from . import builders
from .builders import Budget, Builder, Foreign, Refused, check_key, is_foreign_class

#: An optimizer's state of a model of 300 tensors takes about 40,000.
MAX_OPCODES = 2_000_000
MAX_CALLS = 250_000
MAX_FOREIGN = 10_000
MAX_DEPTH = 100
MAX_UNFOLDED = 10_000_000
_INT_BYTES = 128
_LONG_TEXT = 1 << 10

_INT = struct.Struct('<i')
_UINT16 = struct.Struct('<H')
_UINT32 = struct.Struct('<I')
_UINT64 = struct.Struct('<Q')
_FLOAT = struct.Struct('>d')


class Truncated(UnpicklingError):
    """The program ends before its end."""

    def __init__(self) -> None:
        super().__init__('pickle data was truncated')


def run(program: bytes, start: int, load_storage: Callable[[tuple], Any], budget: Budget) -> tuple[Any, int]:
    """Run a pickle.

    Args:
        program: what holds it.
        start: where it begins there.
        load_storage: takes a persistent id, gives the storage.
        budget: of the file.

    Returns:
        The object, and where its pickle ends.

    Raises:
        Refused: if it asks to run something.
        UnpicklingError: if it is damaged or out of proportion; other exceptions of Python's if it is nonsense.
    """
    return _Machine(program, start, load_storage, budget).run()


class _Machine:
    def __init__(self, program: bytes, start: int, load_storage: Callable[[tuple], Any], budget: Budget) -> None:
        self._program = program
        self._at = start
        self._load_storage = load_storage
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._foreign: dict[str, type[Foreign]] = {}
        self._calls = 0

    def run(self) -> tuple[Any, int]:
        program, stack, marks, memo, end = self._program, self._stack, self._marks, self._memo, len(self._program)
        at = self._at
        for _ in range(MAX_OPCODES):
            if at + 1 >= end and program[at:] != b'.':
                raise Truncated
            opcode = program[at]
            at += 1
            # The few that make up nearly all of a state dict.
            if opcode == 0x71:  # BINPUT
                memo[program[at]] = stack[-1]
                at += 1
            elif opcode == 0x68:  # BINGET
                stack.append(memo[program[at]])
                at += 1
            elif opcode == 0x4B:  # BININT1
                stack.append(program[at])
                at += 1
            elif opcode == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(program[at : at + 4], 'little')] = stack[-1]
                at += 4
            elif opcode == 0x58:  # BINUNICODE
                count = int.from_bytes(program[at : at + 4], 'little')
                at += 4 + count
                if at > end:
                    raise Truncated
                stack.append(self._text(program[at - count : at]))
            elif opcode == 0x28:  # MARK
                marks.append(len(stack))
            elif opcode == 0x74:  # TUPLE
                mark = marks.pop()
                stack[mark:] = (tuple(stack[mark:]),)
            elif opcode == 0x85:  # TUPLE1
                stack[-1] = (stack[-1],)
            elif opcode == 0x86:  # TUPLE2
                stack[-2:] = ((stack[-2], stack[-1]),)
            elif opcode == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif opcode == 0x89:  # NEWFALSE
                stack.append(False)
            elif opcode == 0x2E:  # STOP
                return stack.pop(), at
            else:
                handle = _HANDLERS.get(opcode)
                if handle is None:
                    raise UnpicklingError(f'opcode {opcode:#x} at byte {at - 1}')
                self._at = at
                handle(self)
                at = self._at
        raise UnpicklingError(f'it has more than {MAX_OPCODES} instructions')

    # ------------------------------------------------------------------------------------- what the program says
    def _byte(self) -> int:
        at = self._at
        if at >= len(self._program):
            raise Truncated
        self._at = at + 1
        return self._program[at]

    def _number(self, form: struct.Struct) -> Any:
        return form.unpack(self._bytes(form.size))[0]

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._program):
            raise Truncated
        found = self._program[self._at : end]
        self._at = end
        return found

    def _text(self, raw: bytes) -> str:
        text = str(raw, 'utf-8', 'surrogatepass')
        if len(raw) > _LONG_TEXT:  # one wide letter makes all of them wide
            self._budget.spend(sys.getsizeof(text))
        return text

    def _line(self) -> bytes:
        end = self._program.find(b'\n', self._at)
        if end < 0:
            raise Truncated
        found = self._program[self._at : end]
        self._at = end + 1
        return found

    def _whole(self, count: int) -> int:
        if count > _INT_BYTES:
            raise UnpicklingError(f'a number of {count} bytes')
        return int.from_bytes(self._bytes(count), 'little', signed=True)

    # ------------------------------------------------------------------------------------------------- the stack
    def _marked(self) -> list[Any]:
        """What was pushed since the last mark, taken off."""
        mark = self._marks.pop()
        found = self._stack[mark:]
        del self._stack[mark:]
        return found

    def _three(self) -> None:
        stack = self._stack
        stack[-3:] = ((stack[-3], stack[-2], stack[-1]),)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _decimal(self) -> None:
        line = self._line()
        if len(line) > 2 * _INT_BYTES:
            raise UnpicklingError(f'a number of {len(line)} digits')
        self._push({b'00': False, b'01': True}[line] if line in (b'00', b'01') else int(line.rstrip(b'L')))

    def _raw_text(self) -> None:
        text = str(self._line(), 'raw-unicode-escape')
        self._budget.spend(sys.getsizeof(text))
        self._push(text)

    def _string(self) -> None:
        """A str of Python 2, quoted."""
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b'"', b"'"):
            raise UnpicklingError('a text without quotes')
        self._push(str(escape_decode(line[1:-1])[0], 'utf-8'))

    def _set_memo(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    # ------------------------------------------------------------------------------------------------ containers
    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise UnpicklingError('items for what is no list')

    def _add(self) -> None:
        items, target = self._marked(), self._stack[-1]
        if isinstance(target, set):
            for item in items:
                check_key(item)
            target.update(items)
        elif not isinstance(target, Foreign):
            raise UnpicklingError('members for what is no set')

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise UnpicklingError('a key without a value')
        target = self._stack[-1]
        if isinstance(target, dict):
            for i in range(0, len(items), 2):
                key = items[i]
                if type(key) is not str:
                    check_key(key)
                target[key] = items[i + 1]
        elif not isinstance(target, Foreign):
            raise UnpicklingError('entries for what is no dict')

    def _dict(self) -> None:
        items = self._marked()
        self._push({})
        self._set(items)

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _frozen(self) -> None:
        self._push(builders.TABLE['builtins', 'frozenset'](self._budget, self._marked()))

    # --------------------------------------------------------------------------------------------------- objects
    def _name(self, module: Any, name: Any) -> Any:
        """What stands for an importable thing."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnpicklingError('a name that is no text')
        # Protocol 2, which torch writes, has the names of Python 2.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) in builders.TABLE:
            return builders.TABLE[module, name]
        if module == 'torch' and name in builders.DTYPES:
            return builders.DTYPES[name]
        origin = f'{module}.{name}'
        if builders.runs_code(module, name):
            raise Refused(origin[:200])
        if origin not in self._foreign:
            if len(self._foreign) >= MAX_FOREIGN:
                raise UnpicklingError(f'it names more than {MAX_FOREIGN} classes')
            self._foreign[origin] = builders.foreign(origin)
        return self._foreign[origin]

    def _global(self) -> None:
        module, name = str(self._line(), 'utf-8'), str(self._line(), 'utf-8')
        self._push(self._name(module, name))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._name(module, name))

    def _call(self, function: Any, args: Iterable[Any]) -> None:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise UnpicklingError(f'it builds more than {MAX_CALLS} objects')
        if not isinstance(args, (tuple, list)):
            raise UnpicklingError('arguments that are no tuple')
        if isinstance(function, Builder):
            self._push(function(self._budget, *args))
        elif is_foreign_class(function):
            self._push(function())
        elif isinstance(function, Foreign):
            raise Refused(f'an object of {function.origin}')
        else:
            raise UnpicklingError('a call of what is no class')

    def _reduce(self) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        self._call(function, args)

    def _new(self, cls: Any, args: Any) -> None:
        """The bare object of a class, which for a stand-in is no call."""
        if is_foreign_class(cls):
            self._push(cls.__new__(cls))
        else:
            self._call(cls, args)

    def _new_object(self) -> None:
        args, cls = self._stack.pop(), self._stack.pop()
        self._new(cls, args)

    def _new_object_with_names(self) -> None:
        names, args, cls = self._stack.pop(), self._stack.pop(), self._stack.pop()
        if names and not is_foreign_class(cls):
            raise UnpicklingError('named arguments')
        self._new(cls, args)

    def _object(self) -> None:
        cls, *args = self._marked()
        self._call(cls, args)

    def _instance(self) -> None:
        self._global()
        cls, args = self._stack.pop(), self._marked()
        self._call(cls, args)

    def _build(self) -> None:
        """Give the last object its state; only what the builders know takes one, and no tensor does."""
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, OrderedDict):
            metadata = state.get('_metadata') if isinstance(state, dict) else None
            if isinstance(metadata, dict):  # of a state dict
                target._metadata = metadata
        elif isinstance(target, np.ndarray):
            builders.restore_array(self._budget, target, state)
        elif isinstance(target, builders.history_class() or ()):
            builders.restore_history(self._budget, target, state)
        elif isinstance(target, builders.NumpyDType):
            target.restore(state)
        elif not isinstance(target, (Foreign, torch.Tensor)):
            raise UnpicklingError(f'state given to an object of {type(target).__name__}')

    def _persistent(self) -> None:
        saved = self._stack.pop()
        if not isinstance(saved, tuple) or not saved or saved[0] not in ('storage', b'storage'):
            raise UnpicklingError('persistent object that is no storage')
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise UnpicklingError(f'it builds more than {MAX_CALLS} objects')
        self._push(self._load_storage(saved[1:]))


_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    ord(code): handle
    for code, handle in {
        # numbers
        'J': lambda m: m._push(m._number(_INT)),
        'M': lambda m: m._push(m._number(_UINT16)),
        'G': lambda m: m._push(m._number(_FLOAT)),
        '\x8a': lambda m: m._push(m._whole(m._byte())),
        '\x8b': lambda m: m._push(m._whole(m._number(_UINT32))),
        'I': _Machine._decimal,
        'L': _Machine._decimal,
        'F': lambda m: m._push(float(m._line())),
        'N': lambda m: m._push(None),
        '\x88': lambda m: m._push(True),
        # text and bytes
        '\x8c': lambda m: m._push(m._text(m._bytes(m._byte()))),
        '\x8d': lambda m: m._push(m._text(m._bytes(m._number(_UINT64)))),
        'V': _Machine._raw_text,
        'S': _Machine._string,
        'T': lambda m: m._push(m._text(m._bytes(m._number(_UINT32)))),
        'U': lambda m: m._push(m._text(m._bytes(m._byte()))),
        'C': lambda m: m._push(m._bytes(m._byte())),
        'B': lambda m: m._push(m._bytes(m._number(_UINT32))),
        '\x8e': lambda m: m._push(m._bytes(m._number(_UINT64))),
        '\x96': lambda m: m._push(bytearray(m._bytes(m._number(_UINT64)))),
        # containers
        '\x87': _Machine._three,
        ']': lambda m: m._push([]),
        'l': lambda m: m._push(m._marked()),
        'a': lambda m: m._append([m._stack.pop()]),
        'e': lambda m: m._append(m._marked()),
        '}': lambda m: m._push({}),
        'd': _Machine._dict,
        's': _Machine._set_one,
        'u': lambda m: m._set(m._marked()),
        '\x8f': lambda m: m._push(set()),
        '\x90': _Machine._add,
        '\x91': _Machine._frozen,
        # the stack and what is remembered
        '0': lambda m: m._stack.pop(),
        '1': lambda m: m._marked(),
        '2': lambda m: m._push(m._stack[-1]),
        'p': lambda m: m._set_memo(int(m._line()[:20])),
        '\x94': lambda m: m._set_memo(len(m._memo)),
        'g': lambda m: m._push(m._memo[int(m._line()[:20])]),
        'j': lambda m: m._push(m._memo[m._number(_UINT32)]),
        # objects
        'c': _Machine._global,
        '\x93': _Machine._stack_global,
        'R': _Machine._reduce,
        '\x81': _Machine._new_object,
        '\x92': _Machine._new_object_with_names,
        'o': _Machine._object,
        'i': _Machine._instance,
        'b': _Machine._build,
        'Q': _Machine._persistent,
        # the version, and the lengths of frames, which say nothing new
        '\x80': lambda m: m._byte(),
        '\x95': lambda m: m._bytes(8),
    }.items()
}


def check_nesting(value: Any) -> None:
    """Refuse what contains itself, is deep, or unfolds to much more than it is.

    Containers may be shared; who walks them visits each as often as it is named.

    Raises:
        UnpicklingError: if so.
    """
    sizes: dict[int, int] = {}  # 0: begun
    depths: dict[int, int] = {}
    waiting = [value]
    while waiting:
        item = waiting[-1]
        if sizes.get(id(item)):
            waiting.pop()
            continue
        inner = _containers(item)
        if id(item) in sizes or not inner:
            waiting.pop()
            if any(not sizes.get(id(part)) for part in inner):
                raise UnpicklingError('a container that contains itself')
            sizes[id(item)] = 1 + _length(item) + sum(sizes[id(part)] for part in inner)
            depths[id(item)] = 1 + max((depths[id(part)] for part in inner), default=0)
            if sizes[id(item)] > MAX_UNFOLDED or depths[id(item)] > MAX_DEPTH:
                raise UnpicklingError(
                    f'containers of more than {MAX_UNFOLDED} items, or nested more than {MAX_DEPTH} deep'
                )
            continue
        sizes[id(item)] = 0
        for part in inner:
            if sizes.get(id(part)) == 0:
                raise UnpicklingError('a container that contains itself')
            if id(part) not in sizes:
                waiting.append(part)


def _containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        metadata = [value._metadata] if hasattr(value, '_metadata') else []
        return metadata + [item for item in value.values() if isinstance(item, (dict, list, tuple))]
    if isinstance(value, (list, tuple)):
        return [item for item in value if isinstance(item, (dict, list, tuple))]
    return []


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (dict, list, tuple)) else 0
