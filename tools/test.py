"""Evaluate a detection or segmentation model: ``python tools/test.py CONFIG CHECKPOINT`` (see ``--help``)."""

from mmvim.engine.launch import run_tool, test

if __name__ == '__main__':
    run_tool(test)
