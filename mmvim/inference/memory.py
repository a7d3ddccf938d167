"""Whether something fits into memory."""

from pathlib import Path

from mmvim.errors import UserValueError
from mmvim.machine import free_memory


def check_fits(needed: int, source: str | Path, advice: str) -> None:
    """See that as many bytes are free.

    Raises:
        ValueError: if they are not, with what to do.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise UserValueError(
            f'{source} takes {needed / 1e9:.1f} GB in memory and {free / 1e9:.1f} GB are free: {advice}'
        )
