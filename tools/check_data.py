"""Check the data sets of a config before a model sees them: ``python tools/check_data.py CONFIG`` (see ``--help``)."""

from mmvim.commands import run_tool
from mmvim.commands.check_data import check_data

if __name__ == '__main__':
    run_tool(check_data)
