"""Videos of which every frame has a label map, in the format of VSPW."""

import os
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.registry import DATASETS

CLASSES = (
    'wall', 'ceiling', 'door', 'stair', 'ladder', 'escalator', 'playground slide', 'handrail or fence', 'window',
    'rail', 'goal', 'pillar', 'pole', 'floor', 'ground', 'grass', 'sand', 'athletic field', 'road', 'path',
    'crosswalk', 'building', 'house', 'bridge', 'tower', 'windmill', 'well or well lid', 'other construction', 'sky',
    'mountain', 'stone', 'wood', 'ice', 'snowfield', 'grandstand', 'sea', 'river', 'lake', 'waterfall', 'water',
    'billboard or bulletin board', 'sculpture', 'pipeline', 'flag', 'parasol or umbrella', 'cushion or carpet', 'tent',
    'roadblock', 'car', 'bus', 'truck', 'bicycle', 'motorcycle', 'wheeled machine', 'ship or boat', 'raft', 'airplane',
    'tyre', 'traffic light', 'lamp', 'person', 'cat', 'dog', 'horse', 'cattle', 'other animal', 'tree', 'flower',
    'other plant', 'toy', 'ball net', 'backboard', 'skateboard', 'bat', 'ball',
    'cupboard or showcase or storage rack', 'box', 'traveling case or trolley case', 'basket', 'bag or package',
    'trash can', 'cage', 'plate', 'tub or bowl or pot', 'bottle or cup', 'barrel', 'fishbowl', 'bed', 'pillow',
    'table or desk', 'chair or seat', 'bench', 'sofa', 'shelf', 'bathtub', 'gun', 'commode', 'roaster',
    'other machine', 'refrigerator', 'washing machine', 'microwave oven', 'fan', 'curtain', 'textiles', 'clothes',
    'painting or poster', 'mirror', 'flower pot or vase', 'clock', 'book', 'tool', 'blackboard', 'tissue',
    'screen or television', 'computer', 'printer', 'mobile phone', 'keyboard', 'other electronic product', 'fruit',
    'food', 'instrument', 'train',
)  # fmt: skip


@DATASETS.register_module()
class VSPW(BaseDataset):
    """The frames of videos with label maps: VSPW (Miao et al., CVPR 2021), for the pipelines of mmseg.

    ``ann_file`` lists videos, a name in each line. A video's frames are ``NAME/origin/*.jpg`` below ``data_prefix``'s
    ``video_path``, its label maps ``NAME/mask/*.png``: 1 to 124 for the classes, 0 and 255 for what is left out.
    Frames of a video follow each other in their order.

    Args:
        **kwargs: Of mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the list, or a video on it, is not there.
        ValueError: If there is no video on it, or other classes are asked for.
    """

    # The colours are ours: hues that differ, the same ones every time.
    METAINFO = {'classes': CLASSES, 'palette': np.random.default_rng(0).integers(20, 256, (len(CLASSES), 3)).tolist()}
    img_suffix, seg_map_suffix = '.jpg', '.png'
    reduce_zero_label, ignore_index, label_map = True, 255, None

    def load_data_list(self) -> list[dict]:
        """One entry for each frame."""
        if tuple(self.metainfo['classes']) != CLASSES:
            raise UserValueError(f'mmvim.VSPW has its own {len(CLASSES)} classes: leave metainfo.classes out')
        if not os.path.isfile(self.ann_file):
            raise UserFileNotFoundError(f'there is no list of videos {self.ann_file}: set ann_file, such as train.txt')
        names = Path(self.ann_file).read_text().split()
        if not names:
            raise UserValueError(f'{self.ann_file} names no video')
        return [frame for name in names for frame in self._frames(Path(self.data_prefix['video_path'], name))]

    def _frames(self, video: Path) -> list[dict]:
        if not (video / 'origin').is_dir():
            raise UserFileNotFoundError(f'{self.ann_file} names the video {video.name}, and there is no {video}/origin')
        return [
            {
                'img_path': str(path),
                'seg_map_path': str(video / 'mask' / f'{path.stem}{self.seg_map_suffix}'),
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for path in sorted((video / 'origin').glob(f'*{self.img_suffix}'))
        ]
