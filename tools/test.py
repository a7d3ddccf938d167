"""Evaluate a detection or segmentation model: ``python tools/test.py CONFIG CHECKPOINT`` (see ``--help``)."""

from mmvim.commands import run_tool
from mmvim.commands.test import test

if __name__ == '__main__':
    run_tool(test)
