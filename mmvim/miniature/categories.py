"""Ids under which ADE20K, COCO 2017 and ImageNet know what the miniature scenes show."""

from typing import NamedTuple


class Ids(NamedTuple):
    """Ids of one class: label map value of ADE20K's 150-class benchmark (counted from 1, 0 is everything else),
    category id of COCO 2017, WordNet id, which is a folder name of ImageNet."""

    ade20k: int
    coco: int | None = None
    wordnet: str | None = None


SCENE_CLASSES = {
    'other': Ids(0),
    'building': Ids(2),
    'sky': Ids(3),
    'tree': Ids(5),
    'road': Ids(7),
    'grass': Ids(10),
    'person': Ids(13, 1, 'n00007846'),
    'mountain': Ids(17),
    'car': Ids(21, 3, 'n02958343'),
    'water': Ids(22),
    'boat': Ids(77, 9, 'n02858304'),
    'airplane': Ids(91, 5, 'n02691156'),
    'dog': Ids(127, 18, 'n02084071'),  # ADE20K calls it animal
}

_COCO_GROUPS = {
    'person': {1: 'person'},
    'vehicle': {
        2: 'bicycle',
        3: 'car',
        4: 'motorcycle',
        5: 'airplane',
        6: 'bus',
        7: 'train',
        8: 'truck',
        9: 'boat',
    },
    'outdoor': {10: 'traffic light', 11: 'fire hydrant', 13: 'stop sign', 14: 'parking meter', 15: 'bench'},
    'animal': {
        16: 'bird',
        17: 'cat',
        18: 'dog',
        19: 'horse',
        20: 'sheep',
        21: 'cow',
        22: 'elephant',
        23: 'bear',
        24: 'zebra',
        25: 'giraffe',
    },
    'accessory': {27: 'backpack', 28: 'umbrella', 31: 'handbag', 32: 'tie', 33: 'suitcase'},
    'sports': {
        34: 'frisbee',
        35: 'skis',
        36: 'snowboard',
        37: 'sports ball',
        38: 'kite',
        39: 'baseball bat',
        40: 'baseball glove',
        41: 'skateboard',
        42: 'surfboard',
        43: 'tennis racket',
    },
    'kitchen': {44: 'bottle', 46: 'wine glass', 47: 'cup', 48: 'fork', 49: 'knife', 50: 'spoon', 51: 'bowl'},
    'food': {
        52: 'banana',
        53: 'apple',
        54: 'sandwich',
        55: 'orange',
        56: 'broccoli',
        57: 'carrot',
        58: 'hot dog',
        59: 'pizza',
        60: 'donut',
        61: 'cake',
    },
    'furniture': {62: 'chair', 63: 'couch', 64: 'potted plant', 65: 'bed', 67: 'dining table', 70: 'toilet'},
    'electronic': {72: 'tv', 73: 'laptop', 74: 'mouse', 75: 'remote', 76: 'keyboard', 77: 'cell phone'},
    'appliance': {78: 'microwave', 79: 'oven', 80: 'toaster', 81: 'sink', 82: 'refrigerator'},
    'indoor': {
        84: 'book',
        85: 'clock',
        86: 'vase',
        87: 'scissors',
        88: 'teddy bear',
        89: 'hair drier',
        90: 'toothbrush',
    },
}

#: The ``categories`` list of COCO 2017's instance files: 80 entries, ids up to 90 with gaps.
COCO_CATEGORIES = [
    {'supercategory': group, 'id': number, 'name': name}
    for group, members in _COCO_GROUPS.items()
    for number, name in members.items()
]
