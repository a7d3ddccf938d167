"""Draw a miniature data set in the format of ADE20K, COCO 2017, ImageNet, a benchmark (docs/fields.md), or bare images.

python tools/make_miniature.py ade20k --out data/ade      # read by configs that train on data/ade/ADEChallengeData2016
python tools/make_miniature.py coco --out data/coco
python tools/make_miniature.py imagenet --out data/imagenet_miniature --train 1000 --val 200 --size 224x224
python tools/make_miniature.py cityscapes --out data/cityscapes --size 256x512
python tools/make_miniature.py dota --out data/split_ss_dota --size 256x256     # for configs/rotated
python tools/make_miniature.py lvis --out data/lvis_v1
python tools/make_miniature.py vspw --out data/VSPW_480p --size 96x160          # videos of 20 frames
python tools/make_miniature.py unlabelled --out data/unlabelled --train 4000    # for configs/pretrain
python tools/make_miniature.py captions --out data/coco         # COCO's captions, with images of their own
"""

from __future__ import annotations

import argparse
import sys

from mmvim.miniature.data_sets import KINDS, ensure_miniature


def image_size(text: str) -> tuple[int, int]:
    """Read ``128`` as (128, 128) and ``97x131`` as (97, 131)."""
    height, _, width = text.partition('x')
    return int(height), int(width or height)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('--out', required=True, help='folder of the data set; kept if it holds this data set already')
    parser.add_argument('--train', type=int, default=400, help='number of training images, default %(default)s')
    parser.add_argument('--val', type=int, default=80, help='number of validation images, default %(default)s')
    parser.add_argument('--size', type=image_size, default=(128, 128), help='HEIGHTxWIDTH, default 128x128')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--overwrite', action='store_true', help='replace a miniature data set of other settings')
    args = parser.parse_args()
    try:
        made = ensure_miniature(**vars(args))
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('interrupted, nothing was written')
    height, width = args.size
    print(
        f'{args.out}: {args.train} training and {args.val} validation images of {height} x {width}, '
        f'{"drawn now" if made else "there already"}'
    )


if __name__ == '__main__':
    main()
