"""Names that live elsewhere since this release, and for one release still where they were."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that names have left: they are found, with a line that says where.

    Args:
        module: ``__name__`` of the module.
        names: What was there -> its full name now, such as ``'mmvim.catalogue.MODELS'``.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        warnings.warn(f'{module}.{name} is now {names[name]}', FutureWarning, stacklevel=2)
        place, _, own = names[name].rpartition('.')
        return getattr(import_module(place), own)

    return find
