"""What the pickles of checkpoints may build, each by a small function of ours.

A name in a pickle is never imported. It is looked up in one table; what stands there is ours: a function that builds
the plain thing itself, from arguments that it checks, and that pays for the memory it takes. Every other name becomes
:class:`Foreign`, a class that takes any construction and any state and keeps nothing, so that the configuration
objects which training scripts leave in their checkpoints (``yacs.config.CfgNode``, ``argparse.Namespace``, ...) do
not stand in the way of the weights.

Nothing foreign runs in any case. Beyond that a file is refused, with the name, when it names something that runs
code (:func:`runs_code`), or calls a thing which by its lower-case name is a function: such a file is an attack or
nothing that could be restored.
"""

import builtins
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

# Whatever these modules hold, a checkpoint has no honest use for it.
_RUNNING = re.compile(
    r'(os|posix|nt|sys|subprocess|commands|popen2|pty|importlib|imp|pkgutil|runpy|code|codeop|_?ctypes|cffi|socket|ssl'
    r'|http|urllib2?|requests|ftplib|smtplib|telnetlib|webbrowser|shutil|tempfile|_?io|fileinput|[c_]?[pP]ickle|dill'
    r'|cloudpickle|joblib|marshal|shelve|multiprocessing|_?thread(ing)?|concurrent|asyncio|signal|atexit|inspect|trace'
    r'|pdb|bdb|c?[pP]rofile|timeit|doctest|_?operator|pip|setuptools|distutils|ensurepip|venv|site|zipimport'
    r'|types\.\w*(Code|Function|Lambda|Method|Module)\w*$)(\.|$)'
)
# Lower-case classes and constructors that honest files call; they stay stubs.
_HARMLESS = re.compile(
    r'(collections|datetime|decimal|fractions|uuid)\.\w+$|functools\.partial$|logging\.getLogger$'
    r'|numpy\.random\.\w+(\.\w+)?$'
)
_ORIGIN_LENGTH = 500  # letters of a foreign name

_MIB = 1 << 20
#: Elements of expanded tensors beyond those in their storages, in bytes, all tensors of a file together.
EXPANDED_BYTES = 64 * _MIB
#: Bytes that all tensors of a file may claim together, in sizes of the file: storages may be shared.
SHARING = 16
_AXES = 32
#: Length of a range, and number that a counter may hold.
SMALL = 1 << 16


class Refused(UnpicklingError):
    """The file asks to run something; the message is the name of it."""


class Budget:
    """What may still be built from a file.

    Args:
        program: bytes of the pickle.
        file: bytes of the file.
    """

    def __init__(self, program: int, file: int) -> None:
        self._memory = 4 * program + 64 * _MIB
        self._claims = SHARING * file + EXPANDED_BYTES
        self._expanded = EXPANDED_BYTES

    def spend(self, size: int) -> None:
        """Pay ``size`` bytes of containers, texts and arrays.

        Raises:
            UnpicklingError: if they are more than an honest pickle of its size holds.
        """
        self._memory -= size
        if self._memory < 0:
            raise UnpicklingError('the objects in it would take far more memory than the file itself')

    def claim(self, size: int, stored: int) -> None:
        """Pay for a tensor of ``size`` bytes on a storage of ``stored`` bytes.

        Raises:
            UnpicklingError: if the tensors claim far more than the file has.
        """
        self._claims -= size
        self._expanded -= max(0, size - stored)
        if self._claims < 0 or self._expanded < 0:
            raise UnpicklingError('its tensors claim far more elements than the file has')


# -------------------------------------------------------------------------------------------------- stand-ins
class _ForeignType(type):
    """Calling the stub of a class gives a stub; calling the stub of a function is refused."""

    def __call__(cls, *args: Any, **kwargs: Any) -> 'Foreign':
        if cls.is_function:
            raise Refused(cls.origin)
        return cls.__new__(cls)


class Foreign(metaclass=_ForeignType):
    """Stands for an object of a class that the file names and that is not looked at."""

    origin = 'a foreign class'
    is_function = False

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Foreign':
        return object.__new__(cls)

    def __reduce__(self) -> tuple:
        return Foreign, ()

    def __repr__(self) -> str:
        return f'<{self.origin}, left out>'


def is_foreign_class(value: Any) -> bool:
    """Whether a value stands for a foreign class, not for an object of it."""
    return isinstance(value, _ForeignType)


def foreign(origin: str) -> type[Foreign]:
    """A new class that stands for the one of this name.

    Raises:
        UnpicklingError: if nothing can be called so.
    """
    if len(origin) > _ORIGIN_LENGTH or not origin.isprintable():
        raise UnpicklingError(f'the name {origin[:40]!r}... of a class')
    name = origin.rpartition('.')[2]
    is_function = not name.lstrip('_')[:1].isupper() and not _HARMLESS.match(origin)
    return _ForeignType(name or 'Foreign', (Foreign,), {'origin': origin, 'is_function': is_function})


def runs_code(module: str, name: str) -> bool:
    """Whether a name belongs to what runs code."""
    if module == 'builtins':
        return not isinstance(vars(builtins).get(name), type)
    return _RUNNING.match(f'{module}.{name}') is not None


class Builder:
    """A function of ours, in the place of what the file calls: (budget, arguments) -> object."""

    def __init__(self, build: Callable, origin: str = 'builder') -> None:
        self._build = build
        self.origin = origin

    def __call__(self, budget: Budget, *args: Any) -> Any:
        return self._build(budget, *args)


class StorageType:
    """Stands for a storage class of torch, which is asked for nothing but its dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


# ------------------------------------------------------------------------------------------------------ checks
def _expect(value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kind):
        raise UnpicklingError(f'{what} is an object of {type(value).__name__[:40]}')
    return value


def _whole(values: Any, what: str) -> tuple[int, ...]:
    """A tuple of whole numbers that are not negative and fit into 63 bits."""
    values = tuple(_expect(values, (tuple, list), what))
    if len(values) > _AXES:
        raise UnpicklingError(f'{what} is more than {_AXES} numbers')
    for value in values:
        if not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise UnpicklingError(f'{what} has other values than sizes')
    return values


def check_key(key: Any, nested: bool = False) -> None:
    """Refuse keys of dicts and items of sets whose hash or comparison has no bound.

    Hashing follows tuples as deep as they go; numbers can be chosen such that all of them collide.

    Raises:
        UnpicklingError: if it is none of text, bytes, numbers, None, dtypes, stand-ins, or a short tuple of those.
    """
    if isinstance(key, (str, bytes, float, type(None), torch.dtype, torch.Tensor, Foreign, _ForeignType)):
        return
    if isinstance(key, (int, np.integer)) and abs(int(key)) < 1 << 63:
        return
    if isinstance(key, tuple) and not nested and len(key) <= 16:
        for item in key:
            check_key(item, nested=True)
        return
    raise UnpicklingError(f'an object of {type(key).__name__[:40]} as a key')


def _members(budget: Budget, values: Any) -> Any:
    values = _expect(values, (list, tuple, set, frozenset), 'content of a set')
    budget.spend(64 * len(values))
    for value in values:
        check_key(value)
    return values


# ------------------------------------------------------------------------------------------------------- torch
def _tensor(budget: Budget, storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    return _view(budget, storage, offset, size, stride, None)


def _tensor_v3(
    budget: Budget, storage: Any, offset: int, size: tuple, stride: tuple, grad: bool, hooks: Any, dtype: Any, *_: Any
) -> torch.Tensor:
    return _view(budget, storage, offset, size, stride, _expect(dtype, torch.dtype, 'dtype of a tensor'))


def _view(
    budget: Budget, storage: Any, offset: int, size: tuple, stride: tuple, dtype: torch.dtype | None
) -> torch.Tensor:
    """The elements of a storage that belong to a tensor, all of which must be in it."""
    _expect(storage, torch.storage.TypedStorage, 'storage of a tensor')
    dtype = dtype or storage.dtype
    untyped = storage._untyped_storage
    size, stride = _whole(size, 'size of a tensor'), _whole(stride, 'stride of a tensor')
    (offset,) = _whole((offset,), 'offset of a tensor')
    if len(size) != len(stride):
        raise UnpicklingError(f'a tensor of {len(size)} axes with {len(stride)} strides')
    count, stored = math.prod(size), untyped.nbytes()
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else -1
    if (last + 1) * dtype.itemsize > stored or max(size, default=0) >= 1 << 48:
        raise UnpicklingError(f'a tensor that needs {last + 1} elements where {stored // dtype.itemsize} are')
    budget.claim(count * dtype.itemsize, stored)
    return torch.empty((0,), dtype=dtype, device=untyped.device).set_(untyped, offset if count else 0, size, stride)


def _parameter(budget: Budget, data: torch.Tensor, requires_grad: bool = True, *_: Any) -> torch.nn.Parameter:
    _expect(data, torch.Tensor, 'content of a parameter')
    return torch.nn.Parameter(data, _expect(requires_grad, (bool, int), 'requires_grad') == 1)


def _tensor_subclass(budget: Budget, rebuild: Any, kind: Any, args: tuple, state: Any) -> torch.Tensor:
    if rebuild not in _TENSORS:
        raise Refused(getattr(rebuild, 'origin', type(rebuild).__name__))
    return rebuild(budget, *_expect(args, tuple, 'arguments'))


_TENSORS = tuple(map(Builder, (_tensor, _tensor_v3, _parameter)))


def _size(budget: Budget, values: Any = ()) -> torch.Size:
    return torch.Size(_whole(values, 'size'))


def _device(budget: Budget, kind: str, *index: int) -> torch.device:
    return torch.device(_expect(kind, str, 'device'), *_whole(index, 'number of a device'))


# ------------------------------------------------------------------------------------------------------- numpy
class NumpyDType:
    """A dtype by name and byte order. numpy's own restores object flags from the file, which corrupts memory."""

    def __init__(self, name: str) -> None:
        self._name, self._order = name, '='

    def restore(self, state: tuple) -> None:
        """Take the byte order out of a state."""
        order = state[1]
        self._order = order if order in ('<', '>') else '='

    def real(self) -> np.dtype:
        """The dtype of numpy.

        Raises:
            UnpicklingError: if its items are no numbers or texts.
        """
        if not re.fullmatch(r'[biufcSU][1-9]\d{0,6}', self._name):
            raise UnpicklingError(f'numpy dtype {self._name[:40]!r}')
        return np.dtype(self._order + self._name)


def _dtype(budget: Budget, name: str, *_: Any) -> NumpyDType:
    return NumpyDType(_expect(name, str, 'name of a numpy dtype'))


def _array(budget: Budget, *_: Any) -> np.ndarray:
    return np.empty((0,), np.int8)


def restore_array(budget: Budget, array: np.ndarray, state: Any) -> None:
    """Give an array its content, as numpy does, but from a state that is checked.

    Raises:
        UnpicklingError: if the state is none of an array of numbers or texts.
    """
    _, shape, dtype, fortran, data = state
    shape, dtype = _whole(shape, 'shape of an array'), _expect(dtype, NumpyDType, 'dtype of an array')
    if isinstance(data, list):
        if len(data) != math.prod(shape):  # numpy would read past the end of the list
            raise UnpicklingError(f'array of shape {shape} with {len(data)} items')
        for item in data:
            _expect(item, (str, bytes, int, float, type(None), np.generic, Foreign), 'item of an array')
        budget.spend(8 * len(data))
        array.__setstate__((1, shape, np.dtype(object), fortran is True, data))
        return
    real = dtype.real()
    if len(_expect(data, (bytes, bytearray), 'content of an array')) != math.prod(shape) * real.itemsize:
        raise UnpicklingError(f'array of shape {shape} with {len(data)} bytes')
    budget.spend(len(data))
    array.__setstate__((1, shape, real, fortran is True, bytes(data)))


def _scalar(budget: Budget, dtype: NumpyDType, data: bytes) -> np.generic:
    return np.frombuffer(data, _expect(dtype, NumpyDType, 'dtype of a number').real(), count=1)[0]


# ----------------------------------------------------------------------------------------- Python and mmengine
def _latin1(budget: Budget, text: str, encoding: str) -> bytes:
    """Python 2 form of bytes; only this codec, since others unpack."""
    data = _expect(text, str, 'text').encode('latin1')
    budget.spend(len(data))
    return data


def _reconstructor(budget: Budget, kind: Any, *_: Any) -> Foreign:
    return kind.__new__(_expect(kind, _ForeignType, 'class to reconstruct'))


def _range(budget: Budget, *args: int) -> range:
    numbers = range(*(_expect(arg, int, 'bound of a range') for arg in args))
    if max(map(abs, args)) >= 1 << 63 or len(numbers) > SMALL:
        raise UnpicklingError('a range of more numbers than a checkpoint has use for')
    return numbers


def _slice(budget: Budget, *args: int | None) -> slice:
    return slice(*(_expect(arg, (int, type(None)), 'bound of a slice') for arg in args))


def _complex(budget: Budget, *args: float) -> complex:
    return complex(*(_expect(arg, (int, float), 'part of a complex number') for arg in args))


def _ordered(budget: Budget, pairs: Any = ()) -> OrderedDict:
    """An ordered dict, which Python 2 wrote with a list of pairs."""
    filled = OrderedDict()
    for key, value in _expect(pairs, (list, tuple), 'content of an ordered dict'):
        check_key(key)
        filled[key] = value
    budget.spend(128 * len(filled))
    return filled


def _counter(budget: Budget, counts: Any = None) -> Counter:
    counts = {} if counts is None else _expect(counts, dict, 'content of a counter')
    budget.spend(128 * len(counts))
    if sum(_expect(count, int, 'number in a counter') for count in counts.values()) > SMALL:
        raise UnpicklingError('a counter of more than a checkpoint has use for')
    return Counter(counts)


_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
_ANNEALING = ('_annealing_cos', '_annealing_linear')


def _attribute(budget: Budget, owner: Any, name: str) -> Any:
    """``getattr`` of a pickle: a member of a foreign enum, or the annealing function of a one-cycle schedule."""
    name = _expect(name, str, 'name of an attribute')
    if isinstance(owner, _ForeignType) and owner.origin == _ONE_CYCLE and name in _ANNEALING and find_spec('mmengine'):
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, name)
    budget.spend(2048)  # a class
    return foreign(f'{getattr(owner, "origin", type(owner).__name__)}.{name}')


@cache
def history_class() -> type | None:
    """mmengine's history buffer; None where mmengine is not installed, and nobody could resume."""
    if find_spec('mmengine') is None:
        return None
    from mmengine.logging import HistoryBuffer

    return HistoryBuffer


def _history(budget: Budget, values: Any = (), counts: Any = (), max_length: int = 1_000_000) -> Any:
    """A history buffer of mmengine, which ``--resume`` needs, without showing its class to the file."""
    if history_class() is None:
        return foreign('.'.join(_HISTORY))()
    buffer = history_class()()
    restore_history(budget, buffer, {'_log_history': values, '_count_history': counts, 'max_length': max_length})
    return buffer


def restore_history(budget: Budget, buffer: Any, state: Any) -> None:
    """Give a history buffer its numbers only: mmengine's restores functions too, into the class itself.

    Raises:
        UnpicklingError: if they are not two rows of numbers of the same length.
    """
    buffer.max_length = _expect(_expect(state, dict, 'state of a history')['max_length'], int, 'length of a history')
    buffer._log_history = _numbers(budget, state['_log_history'])
    buffer._count_history = _numbers(budget, state['_count_history'])
    if len(buffer._log_history) != len(buffer._count_history):
        raise UnpicklingError('a history whose numbers and counts differ in length')


def _numbers(budget: Budget, values: Any) -> np.ndarray:
    if isinstance(values, (list, tuple)):
        budget.spend(8 * len(values))
        values = np.array([_expect(value, (int, float), 'number of a history') for value in values])
    if _expect(values, np.ndarray, 'content of a history').ndim != 1 or values.dtype.kind not in 'biuf':
        raise UnpicklingError('a history that is no row of numbers')
    return values


_HISTORY = 'mmengine.logging.history_buffer', 'HistoryBuffer'

TABLE: dict[tuple[str, str], Any] = {
    ('builtins', 'getattr'): Builder(_attribute),
    ('builtins', 'set'): Builder(lambda budget, values=(): set(_members(budget, values))),
    ('builtins', 'frozenset'): Builder(lambda budget, values=(): frozenset(_members(budget, values))),
    ('builtins', 'slice'): Builder(_slice),
    ('builtins', 'complex'): Builder(_complex),
    ('builtins', 'range'): Builder(_range),
    ('builtins', 'bytes'): Builder(lambda budget, *_: b''),  # how protocol 2 writes empty bytes
    ('copyreg', '_reconstructor'): Builder(_reconstructor),
    ('_codecs', 'encode'): Builder(_latin1),
    ('collections', 'OrderedDict'): Builder(_ordered),
    ('collections', 'Counter'): Builder(_counter),
    ('collections', 'defaultdict'): Builder(lambda budget, *_: {}),
    ('torch', 'Size'): Builder(_size),
    ('torch', 'device'): Builder(_device),
    ('torch.storage', 'UntypedStorage'): StorageType(torch.uint8),
    ('torch._utils', '_rebuild_tensor'): _TENSORS[0],
    ('torch._utils', '_rebuild_tensor_v2'): _TENSORS[0],
    ('torch._utils', '_rebuild_tensor_v3'): _TENSORS[1],
    ('torch._utils', '_rebuild_parameter'): _TENSORS[2],
    ('torch._utils', '_rebuild_parameter_with_state'): _TENSORS[2],
    ('torch._tensor', '_rebuild_from_type_v2'): Builder(_tensor_subclass),
    ('numpy', 'dtype'): Builder(_dtype),
    _HISTORY: Builder(_history, '.'.join(_HISTORY)),
}
for _core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    TABLE[_core, '_reconstruct'] = Builder(_array)
    TABLE[_core, 'scalar'] = Builder(_scalar)
for _name, _stored in {
    'Double': torch.float64,
    'Float': torch.float32,
    'Half': torch.float16,
    'BFloat16': torch.bfloat16,
    'Long': torch.int64,
    'Int': torch.int32,
    'Short': torch.int16,
    'Char': torch.int8,
    'Byte': torch.uint8,
    'Bool': torch.bool,
    'ComplexDouble': torch.complex128,
    'ComplexFloat': torch.complex64,
}.items():
    for _module in ('torch', 'torch.cuda', 'torch.storage'):
        TABLE[_module, f'{_name}Storage'] = StorageType(_stored)
DTYPES: dict[str, torch.dtype] = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
