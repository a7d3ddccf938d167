"""Write a model as a file for another runtime: ``python tools/export.py MODEL [WEIGHTS] --to FORMAT --out FOLDER``."""

import sys

from mmvim.commands import run_tool
from mmvim.commands.export import main

if __name__ == '__main__':
    run_tool(lambda: sys.exit(main()))
