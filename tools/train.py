"""Train a detection or segmentation model: ``python tools/train.py CONFIG`` (``--help`` lists the options)."""

from mmvim.commands import run_tool
from mmvim.commands.train import train

if __name__ == '__main__':
    run_tool(train)
