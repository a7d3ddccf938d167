"""Triton's names where Triton is not installed: files that define kernels can be imported, their kernels not called."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mmvim.errors import UserNotImplementedError

VERSION = '3.0.0'


def _refuse(name: str) -> UserNotImplementedError:
    return UserNotImplementedError(
        f'{name} cannot run: Triton is not installed, and mmvim.shim has its names alone. '
        "Take the code's path without Triton, or install triton on a machine with a GPU"
    )


class Kernel:
    """A function under ``@triton.jit``, ``autotune`` or ``heuristics``: uncompiled; a call is an error."""

    def __init__(self, fn: Callable):
        self.fn = fn
        functools.update_wrapper(self, fn)

    def __getitem__(self, grid: Any) -> 'Kernel':
        return self

    def __call__(self, *args, **kwargs):
        raise _refuse(f'the Triton kernel {getattr(self.fn, "__qualname__", self.fn)}')

    run = warmup = __call__


class Name:
    """Anything else of Triton's: can be named, annotated and imported, not called."""

    def __init__(self, name: str):
        self.__name__ = name

    def __getattr__(self, name: str) -> 'Name':
        if name.startswith('__'):
            raise AttributeError(name)
        return Name(f'{self.__name__}.{name}')

    def __call__(self, *args, **kwargs):
        raise _refuse(self.__name__)

    def __repr__(self) -> str:
        return f'<{self.__name__} of mmvim.shim>'


class Config:
    """``triton.Config``: one choice of a kernel's constants, kept as it is given."""

    def __init__(self, kwargs: dict, num_warps: int = 4, num_stages: int = 2, **options):
        self.kwargs, self.num_warps, self.num_stages = kwargs, num_warps, num_stages
        vars(self).update(options)


class constexpr:  # noqa: N801 - Triton's name
    """``tl.constexpr``: an annotation, or a constant of a module."""

    def __init__(self, value: Any):
        self.value = getattr(value, 'value', value)

    def __class_getitem__(cls, item: Any) -> type:
        return cls


def jit(fn: Callable | None = None, **options) -> Kernel | Callable[[Callable], Kernel]:
    """``@triton.jit``, with options and without."""
    return Kernel if fn is None else Kernel(fn)


def autotune(configs: list[Config], key: list[str], **options) -> Callable[[Kernel], Kernel]:
    """``@triton.autotune``; the kernel keeps its ``configs``, which code looks at."""

    def decorate(kernel: Kernel) -> Kernel:
        kernel.configs = configs
        return kernel

    return decorate


def heuristics(values: dict[str, Callable]) -> Callable[[Kernel], Kernel]:
    """``@triton.heuristics``."""
    return lambda kernel: kernel


def cdiv(x: int, y: int) -> int:
    """x / y, rounded up."""
    return -(-x // y)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def set_allocator(allocator: Callable) -> None:
    """``triton.set_allocator``, which files call when they are imported: no kernel will ask for memory."""


NAMES = {
    'triton': {
        'jit': jit, 'autotune': autotune, 'heuristics': heuristics, 'Config': Config, 'cdiv': cdiv,
        'next_power_of_2': next_power_of_2, 'set_allocator': set_allocator, '__version__': VERSION,
    },
    'triton.language': {'constexpr': constexpr, 'cdiv': cdiv},
}  # fmt: skip


def fill(module: ModuleType) -> None:
    """Make a module of Triton's, at any depth, out of an empty one."""

    def other(name: str) -> Name:
        if name.startswith('__'):
            raise AttributeError(f'module {module.__name__!r} has no attribute {name!r}')
        return Name(f'{module.__name__}.{name}')

    vars(module).update(NAMES.get(module.__name__, {}), __getattr__=other)
