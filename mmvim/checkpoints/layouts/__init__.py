"""The layouts of checkpoints that are understood, one file a family."""

from mmvim.errors import UserValueError

from . import deit, efficientvmamba, localvim, localvmamba, mambaout, mambavision, plainmamba, vim, vmamba
from .record import Layout, variant_of

__all__ = ['LAYOUTS', 'Layout', 'add', 'variant_of']

#: In the order in which a file is compared with them: one whose blocks have more names than another's comes before it.
LAYOUTS: list[Layout] = []


def add(layout: Layout) -> None:
    """Let checkpoints of one more family be understood.

    Raises:
        ValueError: If there is a layout of that name.
    """
    if any(known.name == layout.name for known in LAYOUTS):
        raise UserValueError(f'there is a layout {layout.name!r} already')
    LAYOUTS.append(layout)


# LocalMamba's have all names of Vim's and VMamba's, and more; EfficientVMamba's those of VMamba's.
for _module in (localvim, localvmamba, vim, efficientvmamba, vmamba, mambaout, mambavision, plainmamba, deit):
    add(_module.LAYOUT)
