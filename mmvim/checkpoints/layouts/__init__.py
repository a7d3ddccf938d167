"""The layouts of checkpoints that are understood, one file a family."""

from mmvim.errors import UserValueError

from . import deit, mambaout, mambavision, vim, vmamba
from .record import Layout, variant_of

__all__ = ['LAYOUTS', 'Layout', 'add', 'variant_of']

#: In the order in which a file is compared with them.
LAYOUTS: list[Layout] = []


def add(layout: Layout) -> None:
    """Let checkpoints of one more family be understood.

    Raises:
        ValueError: If there is a layout of that name.
    """
    if any(known.name == layout.name for known in LAYOUTS):
        raise UserValueError(f'there is a layout {layout.name!r} already')
    LAYOUTS.append(layout)


for _module in (vim, vmamba, mambaout, mambavision, deit):
    add(_module.LAYOUT)
