"""Make a checkpoint of a run into files to hand on: the weights alone, the hash in their name, and a metafile's entry.

python tools/publish_model.py work_dirs/masks/iter_60000.pth published --config configs/mine/masks.py
python tools/publish_model.py run.pth published/upernet_mine.pth
"""

import argparse

from mmvim.commands import run_tool
from mmvim.zoo.publish import publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='a file, a name in weights/, or an http(s) address')
    parser.add_argument('out', help='folder for the files, or in it their name with .pth')
    parser.add_argument('--config', help='of the model: the weights are seen to fit it, and the entry tells more')
    args = parser.parse_args()
    for path in publish(args.checkpoint, args.out, args.config):
        print(path)


if __name__ == '__main__':
    run_tool(main)
