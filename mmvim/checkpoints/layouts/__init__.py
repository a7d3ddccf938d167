"""The layouts of checkpoints that are understood, one file a family."""

from . import deit, mambaout, vim, vmamba
from .record import Layout

__all__ = ['LAYOUTS', 'Layout', 'add']

#: In the order in which a file is compared with them.
LAYOUTS: list[Layout] = []


def add(layout: Layout) -> None:
    """Let checkpoints of one more family be understood.

    Raises:
        ValueError: If there is a layout of that name.
    """
    if any(known.name == layout.name for known in LAYOUTS):
        raise ValueError(f'there is a layout {layout.name!r} already')
    LAYOUTS.append(layout)


for _module in (vim, vmamba, mambaout, deit):
    add(_module.LAYOUT)
