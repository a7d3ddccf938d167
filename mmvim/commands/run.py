"""How a command ends."""

import os
import sys
from collections.abc import Callable

from mmvim.errors import UserError

from .worker_error import worker_sentence


def run_tool(tool: Callable[[], None]) -> None:
    """Run a command-line tool; a :class:`~mmvim.errors.UserError` ends it with its sentence and exit code 1.

    An error of a process that loads data ends it likewise. Whatever else goes wrong keeps its traceback; with the
    environment variable ``MMVIM_TRACEBACK=1`` these do too.
    """
    try:
        tool()
    except UserError as error:
        if os.environ.get('MMVIM_TRACEBACK') == '1':
            raise
        # Out of a process that loads images it comes at the end of that one's traceback.
        sentence = str(error).rpartition(f'{type(error).__name__}: ')[2].strip()
        sys.exit(f'error: {sentence}')
    except Exception as error:
        sentence = worker_sentence(error)
        if sentence is None or os.environ.get('MMVIM_TRACEBACK') == '1':
            raise
        sys.exit(f'error: {sentence}')
