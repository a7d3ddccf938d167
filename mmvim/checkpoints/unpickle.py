"""A pickle machine that builds tensors and plain containers, and runs nothing that a file names.

A pickle is a program: it names importable things (GLOBAL) and calls them (REDUCE). What it names is never imported
here. A name is looked up in one table; what stands there is ours: a small function that builds the plain thing
itself. Every other name becomes :class:`Foreign`, a class that takes any construction and any state and keeps
nothing, so that the configuration objects which training scripts leave in their checkpoints (``yacs.config.CfgNode``,
``argparse.Namespace``, ...) do not stand in the way of the weights.

Nothing foreign runs in any case. Beyond that a file is refused, with the name, when it names something that runs
code (:func:`_runs_code`), or calls a thing which by its lower-case name is a function: such a file is an attack or
nothing that could be restored.

Real classes and functions are not handed to the machine either. It could overwrite their attributes (BUILD on a
class), and torch and numpy trust the state that they restore themselves from more than a stranger deserves.
"""

import builtins
import math
import pickle
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable
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


class Refused(pickle.UnpicklingError):
    """The file asks to run something; the message is the name of it."""


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

    def __setstate__(self, state: Any = None) -> None:
        """Forget the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget the item, of a foreign dict."""

    def append(self, value: Any) -> None:
        """Forget the item, of a foreign list."""

    extend = add = append

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise Refused(f'an object of {self.origin}')

    def __reduce__(self) -> tuple:
        return Foreign, ()

    def __repr__(self) -> str:
        return f'<{self.origin}, left out>'


def _foreign(origin: str) -> type[Foreign]:
    name = origin.rpartition('.')[2]
    is_function = not name.lstrip('_')[:1].isupper() and not _HARMLESS.match(origin)
    return _ForeignType(name or 'Foreign', (Foreign,), {'origin': origin, 'is_function': is_function})


def _runs_code(module: str, name: str) -> bool:
    if module == 'builtins':
        return not isinstance(vars(builtins).get(name), type)
    return _RUNNING.match(f'{module}.{name}') is not None


class _Builder:
    """A function of ours, in the place of what the file calls."""

    def __init__(self, build: Callable) -> None:
        self._build = build

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('state given to a function')


# ------------------------------------------------------------------------------------------------ torch
def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _tensor_v3(storage: Any, offset: int, size: tuple, stride: tuple, grad: bool, hooks: Any, dtype: Any, *_: Any):
    return torch._utils._rebuild_tensor_v3(storage, offset, size, stride, False, OrderedDict(), dtype)


def _parameter(data: torch.Tensor, requires_grad: bool = True, *_: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, bool(requires_grad))


def _tensor_subclass(rebuild: Any, kind: Any, args: tuple, state: Any) -> torch.Tensor:
    if not isinstance(rebuild, _Builder):
        raise Refused(getattr(rebuild, 'origin', type(rebuild).__name__))
    return rebuild(*args)


class _BytesStorage:
    """Stands for ``torch.UntypedStorage``; torch asks a storage class for nothing but its dtype."""

    dtype = _dtype = torch.uint8

    def __setstate__(self, state: Any = None) -> None:
        raise pickle.UnpicklingError('state given to a storage class')


# ------------------------------------------------------------------------------------------------ numpy
class _DType:
    """A dtype by name and byte order. numpy's own restores object flags from the file, which corrupts memory."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = str(name), '='

    def __setstate__(self, state: tuple) -> None:
        self.order = {'<': '<', '>': '>'}.get(state[1], '=')

    def real(self) -> np.dtype:
        if not re.fullmatch(r'[biufcSU]\d+', self.name):
            raise pickle.UnpicklingError(f'numpy dtype {self.name!r}')
        return np.dtype(self.order + self.name)


class _Array(np.ndarray):
    """An array that restores itself from checked state only, and is saved again as an ordinary one."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):
            if len(data) != math.prod(shape):  # numpy would read past the end of the list
                raise pickle.UnpicklingError(f'array of shape {shape} with {len(data)} items')
            super().__setstate__((1, shape, np.dtype(object), fortran, data))
        else:
            super().__setstate__((1, shape, dtype.real(), fortran, data))

    def __reduce_ex__(self, protocol: int) -> tuple:
        return np.asarray(self).__reduce_ex__(protocol)


def _array(*_: Any) -> _Array:
    return np.empty((0,), np.int8).view(_Array)


def _scalar(dtype: _DType, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.real(), count=1)[0]


# --------------------------------------------------------------------------------------- Python and mmengine
def _latin1(text: str, encoding: str) -> bytes:
    """Python 2 form of bytes; only this codec, since others unpack."""
    return text.encode('latin1')


def _reconstructor(kind: Any, *_: Any) -> Foreign:
    if not isinstance(kind, _ForeignType):
        raise pickle.UnpicklingError('reconstructor of a known class')
    return kind.__new__(kind)


_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
_ANNEALING = ('_annealing_cos', '_annealing_linear')


def _attribute(owner: Any, name: str) -> Any:
    """``getattr`` of a pickle: a member of a foreign enum, or the annealing function of a one-cycle schedule."""
    if isinstance(owner, _ForeignType) and owner.origin == _ONE_CYCLE and name in _ANNEALING:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, name)
    origin = getattr(owner, 'origin', type(owner).__name__)
    return _foreign(f'{origin}.{name}')


class _HistoryBuffer:
    """Gives history buffers of mmengine, which ``--resume`` needs, without showing their class to the file."""

    def __new__(cls, *args: Any) -> Any:
        from mmengine.logging import HistoryBuffer

        class History(HistoryBuffer):
            """Takes the numbers only: mmengine's restores functions too, into the class itself."""

            def __setstate__(self, state: dict) -> None:
                self.max_length = int(state['max_length'])
                self._log_history, self._count_history = state['_log_history'], state['_count_history']

            def __reduce_ex__(self, protocol: int) -> tuple:
                return HistoryBuffer, (self._log_history, self._count_history, self.max_length)

        return History(*args)

    @staticmethod
    def __setstate__(state: Any) -> None:
        raise pickle.UnpicklingError('state given to a class')


_TABLE: dict[tuple[str, str], Any] = {
    ('builtins', 'getattr'): _Builder(_attribute),
    ('builtins', 'set'): _Builder(set),
    ('builtins', 'frozenset'): _Builder(frozenset),
    ('builtins', 'slice'): _Builder(slice),
    ('builtins', 'complex'): _Builder(complex),
    ('builtins', 'range'): _Builder(range),
    ('builtins', 'bytes'): _Builder(lambda: b''),  # how protocol 2 writes empty bytes
    ('copyreg', '_reconstructor'): _Builder(_reconstructor),
    ('_codecs', 'encode'): _Builder(_latin1),
    ('collections', 'OrderedDict'): _Builder(OrderedDict),
    ('collections', 'Counter'): _Builder(Counter),
    ('collections', 'defaultdict'): _Builder(lambda *_: {}),
    ('torch', 'Size'): _Builder(torch.Size),
    ('torch', 'device'): _Builder(torch.device),
    ('torch.storage', 'UntypedStorage'): _BytesStorage(),
    ('torch._utils', '_rebuild_tensor'): _Builder(_tensor),
    ('torch._utils', '_rebuild_tensor_v2'): _Builder(_tensor),
    ('torch._utils', '_rebuild_tensor_v3'): _Builder(_tensor_v3),
    ('torch._utils', '_rebuild_parameter'): _Builder(_parameter),
    ('torch._utils', '_rebuild_parameter_with_state'): _Builder(_parameter),
    ('torch._tensor', '_rebuild_from_type_v2'): _Builder(_tensor_subclass),
    ('numpy', 'dtype'): _Builder(_DType),
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _HistoryBuffer,
}
for _core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _TABLE[_core, '_reconstruct'] = _Builder(_array)
    _TABLE[_core, 'scalar'] = _Builder(_scalar)


def _storages_only(load: Callable) -> Callable:
    """Torch's loader of storages, without the old form for modules, which looks up and writes source files."""

    def load_storage(saved_id: Any) -> Any:
        if not isinstance(saved_id, tuple) or saved_id[0] not in ('storage', b'storage'):
            raise pickle.UnpicklingError('persistent object that is no storage')
        return load(saved_id)

    return load_storage


class Unpickler(pickle.Unpickler):
    """To be handed to ``torch.load`` as part of a ``pickle_module``."""

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2, which torch writes, has the names of Python 2.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) in _TABLE:
            return _TABLE[module, name]
        if module == 'torch' and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if _runs_code(module, name):
            raise Refused(f'{module}.{name}')
        return _foreign(f'{module}.{name}')

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _storages_only(value) if name == 'persistent_load' else value)


def load(file: Any, **kwargs: Any) -> Any:
    """``pickle.load`` with :class:`Unpickler`."""
    return Unpickler(file, **kwargs).load()
