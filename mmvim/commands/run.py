"""How a command ends."""

import os
import sys
from collections.abc import Callable

from mmvim.errors import UserError


def run_tool(tool: Callable[[], None]) -> None:
    """Run a command-line tool; a :class:`~mmvim.errors.UserError` ends it with its sentence and exit code 1.

    Whatever else goes wrong keeps its traceback; with the environment variable ``MMVIM_TRACEBACK=1`` these do too.
    """
    try:
        tool()
    except UserError as error:
        if os.environ.get('MMVIM_TRACEBACK') == '1':
            raise
        # Out of a process that loads images it comes at the end of that one's traceback.
        sentence = str(error).rpartition(f'{type(error).__name__}: ')[2].strip()
        sys.exit(f'error: {sentence}')
