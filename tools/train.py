"""Train a detection or segmentation model: ``python tools/train.py CONFIG`` (``--help`` lists the options)."""

from mmvim.engine.launch import run_tool, train

if __name__ == '__main__':
    run_tool(train)
