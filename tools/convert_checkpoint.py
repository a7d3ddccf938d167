"""Make a plain file of weights from a checkpoint of any layout, reading it without running code from it.

python tools/convert_checkpoint.py vim_s_midclstok_80p5acc.pth vim_s.pth                 # names of mmvim's models
python tools/convert_checkpoint.py work_dirs/run/iter_60000.pth vim.pth --to official    # names of the published files
python tools/convert_checkpoint.py run.pth teacher.pth --prefix teacher --key model_ema  # one of several models
"""

import argparse

from mmvim.checkpoints.convert import LAYOUTS, convert
from mmvim.commands import run_tool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='checkpoint: a file, a name in weights/, or an http(s) address')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--to', choices=LAYOUTS, default='ours', help='default: %(default)s')
    parser.add_argument('--force', action='store_true', help='replace the file if it exists')
    parser.add_argument('--key', help='where the weights are in the checkpoint, such as model_ema (default: found)')
    parser.add_argument('--prefix', help='take what stands behind this prefix, such as student, and nothing else')
    args = parser.parse_args()
    print(convert(args.source, args.target, args.to, args.force, args.key, args.prefix))


if __name__ == '__main__':
    run_tool(main)
