"""Registries that give back what is registered."""

from collections.abc import Callable


class Registry:
    """Takes every argument, keeps nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def register_module(self, *_: object, module: Callable | None = None, **__: object) -> Callable:
        """As a decorator, or with the module to register."""
        return (lambda cls: cls) if module is None else module


def __getattr__(name: str) -> Registry:
    """Any of mmengine's root registries."""
    if not name.isupper():
        raise AttributeError(name)
    return Registry()
