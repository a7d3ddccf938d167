"""The model zoo: ``python tools/zoo.py list``, ``evaluate``, ``check`` or ``write`` (see ``--help``)."""

import sys

from mmvim.commands import run_tool
from mmvim.commands.zoo import main

if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
