"""Draw what a model sees: ``python tools/demo.py IMAGE|FOLDER|VIDEO MODEL [WEIGHTS]`` (see ``--help``)."""

import sys

from mmvim.commands import run_tool
from mmvim.commands.demo import main

if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
