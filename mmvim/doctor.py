"""``python -m mmvim.doctor``: what this machine has of what mmvim uses, and what to type where something is missing.

Nothing that is missing or broken ends the examination. As a script, ``python mmvim/doctor.py``, it does not even need
``import mmvim`` to work.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


def stand_in_for_the_package() -> None:
    """Let modules of mmvim be imported without its ``__init__``, which imports OpenMMLab."""
    folder = Path(__file__).resolve().parent
    # As a script its folder is on the path, where ops, models and datasets would hide packages of these names.
    sys.path[0] = str(folder.parent)
    package = ModuleType('mmvim')
    package.__path__ = [str(folder)]
    sys.modules['mmvim'] = package


if __name__ == '__main__':
    if not __package__:
        stand_in_for_the_package()
    sys.exit(import_module('mmvim.commands.doctor').main())
