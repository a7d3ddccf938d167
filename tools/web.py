"""A page on this machine that shows what models see: ``make web`` or ``python tools/web.py`` (see ``--help``)."""

from mmvim.commands import run_tool
from mmvim.commands.web import main

if __name__ == '__main__':
    run_tool(main)
