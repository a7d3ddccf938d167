"""Write label maps as one number of a class for each pixel, with 8 bits, into a new folder.

python tools/convert_labels.py masks masks_numbers --palette configs/mine/masks.py    # colours of metainfo.palette
python tools/convert_labels.py masks masks_numbers --grey                             # three equal channels
python tools/convert_labels.py masks masks_1 --values 255=1                           # masks of 0 and 255
"""

import argparse
from pathlib import Path

from mmengine.config import Config

from mmvim.commands.run import run_tool
from mmvim.datasets.label_files import convert_folder, from_grey, from_palette, from_values
from mmvim.errors import UserValueError


def pair(text: str) -> tuple[int, int]:
    """Read ``255=1`` as (255, 1)."""
    old, _, new = text.partition('=')
    return int(old), int(new)


def palette_of(config: str) -> list:
    """The palette of the data set that a config trains on."""
    dataset = Config.fromfile(config).train_dataloader.dataset
    palette = (dataset.get('metainfo') or {}).get('palette')
    if not palette:
        raise UserValueError(f'{config}: train_dataloader.dataset has no metainfo.palette.')
    return palette


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='folder of label maps')
    parser.add_argument('target', type=Path, help='folder to write')
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument('--palette', metavar='CONFIG', help='colours are those of metainfo.palette of this config')
    how.add_argument('--grey', action='store_true', help='take one of three equal channels')
    how.add_argument('--values', nargs='+', type=pair, metavar='OLD=NEW', help='change these values')
    args = parser.parse_args()
    if args.palette:
        convert = from_palette(palette_of(args.palette))
    else:
        convert = from_grey if args.grey else from_values(dict(args.values))
    print(f'{args.target}: {convert_folder(args.source, args.target, convert)} label maps')


if __name__ == '__main__':
    run_tool(main)
