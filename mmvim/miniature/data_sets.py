"""Writes miniature data sets of drawn scenes in the formats of ADE20K, COCO 2017, ImageNet and benchmarks, or bare.

What reads the real data sets reads these: same folders, same file formats, same ids of the classes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mmvim.errors import UserFileExistsError, UserValueError

from .above import render_from_above
from .captions import describe
from .categories import COCO_CATEGORIES, SCENE_CLASSES
from .layouts import LAYOUTS
from .lvis import LVIS_NUMBERS, lvis_categories
from .masks import polygons, run_lengths
from .moving import VIDEO_FRAMES, VSPW_NUMBERS, moving_scene
from .oriented import render_oriented
from .scenes import SILHOUETTES, SMALLEST_SIDE, Scene, render_object, render_scene

#: Lies in every finished data set and says what it was made from.
MARKER = 'miniature.json'

# Raised with every change of the drawings or the files, so that data sets of older versions are not kept for current.
_RECIPE = 2

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_SPLITS = ('train', 'val')


@dataclass(frozen=True)
class _Request:
    """Everything the bytes of a data set depend on."""

    kind: str
    train: int
    val: int
    height: int
    width: int
    seed: int
    recipe: int = _RECIPE

    def __post_init__(self) -> None:
        if self.kind not in _WRITERS:
            raise UserValueError(f'unknown kind of data set {self.kind!r}, choose one of {", ".join(_WRITERS)}')
        if min(self.train, self.val) < 1:
            raise UserValueError(f'a data set needs at least one image in each split, got {self.train} and {self.val}')
        if min(self.height, self.width) < SMALLEST_SIDE:
            raise UserValueError(
                f'images need sides of at least {SMALLEST_SIDE} pixels, got {self.height} x {self.width}'
            )
        if self.seed < 0:
            raise UserValueError(f'the seed is a number from 0 upwards, got {self.seed}')

    def generator(self, split: str, index: int) -> np.random.Generator:
        """One generator for each image: more images leave the first ones as they are."""
        return np.random.default_rng([self.seed, _SPLITS.index(split), index])


def ensure_miniature(
    kind: str,
    out: str | Path,
    *,
    train: int = 400,
    val: int = 80,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> bool:
    """Make a miniature data set unless it is there already.

    It is drawn in a temporary folder beside ``out`` and moved there at the end: an interrupted run leaves nothing.

    Args:
        kind: one of :data:`KINDS`.
        out: folder of the data set; missing parents are made.
        train, val: numbers of images.
        size: height and width of the images in pixels.
        seed: the same seed gives the same bytes, with the same version of OpenCV.
        overwrite: replace a miniature data set of other settings.
        progress: show a bar for each split.

    Returns:
        Whether it was made now; False if the same data set was there.

    Raises:
        ValueError: unknown kind, no images, images too small.
        FileExistsError: ``out`` holds something else.
    """
    request = _Request(kind, train, val, *size, seed)
    out = Path(out)
    if _is_there(request, out, overwrite):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    try:
        made = scratch / 'made'
        made.mkdir()
        for split in _SPLITS:
            count = getattr(request, split)
            indices = track(range(count), f'{out} {split}', total=count, disable=not progress)
            _WRITERS[kind](request, made, split, indices)
        (made / MARKER).write_text(json.dumps(asdict(request), indent=2) + '\n')
        if out.exists():
            out.rename(scratch / 'replaced')
        made.rename(out)
    finally:
        shutil.rmtree(scratch)
    return True


def _is_there(request: _Request, out: Path, overwrite: bool) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        raise UserFileExistsError(
            f'{out} is there and is no miniature data set; name another folder with --out'
        ) from None
    wanted = asdict(request)
    if found == wanted:
        return True
    if overwrite:
        return False
    differ = [key for key in wanted if found.get(key) != wanted[key]]
    have, want = (', '.join(f'{key}={values.get(key)}' for key in differ) for values in (found, wanted))
    raise UserFileExistsError(
        f'{out} holds a miniature data set with {have}, asked for was {want}; '
        'add --overwrite to replace it or name another folder with --out'
    )


def _write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, RGB or of one channel, in the format of the suffix."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # Not cv2.imwrite, which tells of a full disk by nothing but a return value.
    encoded = cv2.imencode(path.suffix, image, _JPEG if path.suffix != '.png' else [])[1]
    path.write_bytes(encoded.tobytes())


def _scenes(request: _Request, split: str, indices: Iterable[int]) -> Iterator[tuple[int, Scene]]:
    for index in indices:
        yield index, render_scene(request.generator(split, index), request.height, request.width)


def _write_ade20k(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    folder = {'train': 'training', 'val': 'validation'}[split]
    images = root / 'ADEChallengeData2016/images' / folder
    maps = root / 'ADEChallengeData2016/annotations' / folder
    for path in (images, maps):
        path.mkdir(parents=True)
    for index, scene in _scenes(request, split, indices):
        name = f'ADE_{split}_{index + 1:08d}'
        _write_image(images / f'{name}.jpg', scene.image)
        _write_image(maps / f'{name}.png', scene.labels)


def _coco_file(request: _Request, split: str) -> dict:
    """What COCO's files of instances and of captions have in common, without images yet."""
    return {
        'info': {
            'description': f'Miniature scenes, {split}',
            'version': str(request.recipe),
            'year': 2017,
            'contributor': 'mmvim',
            'url': '',
            'date_created': '2017/09/01',
        },
        'licenses': [{'id': 1, 'name': 'Apache License 2.0', 'url': 'https://www.apache.org/licenses/LICENSE-2.0'}],
        'images': [],
        'annotations': [],
    }


def _add_coco_image(request: _Request, root: Path, split: str, index: int, scene: Scene, contents: dict) -> int:
    """Write a picture and note it among the images; returns its id."""
    image_id = 2 * index + 1 + _SPLITS.index(split)  # never shared between the splits
    name = f'{image_id:012d}.jpg'
    _write_image(root / f'{split}2017' / name, scene.image)
    contents['images'].append(
        {'id': image_id, 'file_name': name, 'height': request.height, 'width': request.width, 'license': 1}
    )
    return image_id


def _write_coco(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    (root / f'{split}2017').mkdir()
    contents = {**_coco_file(request, split), 'categories': COCO_CATEGORIES}
    for index, scene in _scenes(request, split, indices):
        image_id = _add_coco_image(request, root, split, index, scene, contents)
        for instance in scene.instances:
            rows, columns = np.flatnonzero(instance.mask.any(axis=1)), np.flatnonzero(instance.mask.any(axis=0))
            left, top = float(columns[0]), float(rows[0])
            contents['annotations'].append(
                {
                    'id': len(contents['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': SCENE_CLASSES[instance.name].coco,
                    'iscrowd': int(instance.crowd),
                    'bbox': [left, top, float(columns[-1]) + 1 - left, float(rows[-1]) + 1 - top],
                    'area': float(instance.mask.sum()),
                    'segmentation': run_lengths(instance.mask) if instance.crowd else polygons(instance.mask),
                }
            )
    (root / 'annotations').mkdir(exist_ok=True)
    (root / f'annotations/instances_{split}2017.json').write_text(json.dumps(contents))


def _write_captions(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    (root / f'{split}2017').mkdir()
    contents = _coco_file(request, split)
    for index, scene in _scenes(request, split, indices):
        image_id = _add_coco_image(request, root, split, index, scene, contents)
        words = np.random.default_rng([request.seed, _SPLITS.index(split), index, 1])
        for caption in describe(scene, words):
            number = len(contents['annotations']) + 1
            contents['annotations'].append({'id': number, 'image_id': image_id, 'caption': caption})
    (root / 'annotations').mkdir(exist_ok=True)
    (root / f'annotations/captions_{split}2017.json').write_text(json.dumps(contents))


def _write_lvis(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    """COCO's format with LVIS's own: images by address, and for each those classes that are known not to be there."""
    _write_coco(request, root, split, indices)
    whole = root / f'annotations/instances_{split}2017.json'
    contents = json.loads(whole.read_text())
    whole.unlink()
    numbers = {SCENE_CLASSES[name].coco: number for name, number in LVIS_NUMBERS.items()}
    annotations = [each for each in contents['annotations'] if not each['iscrowd']]  # LVIS has no crowds
    for annotation in annotations:
        annotation['category_id'] = numbers[annotation['category_id']]
        del annotation['iscrowd']
    seen = {image['id']: set() for image in contents['images']}
    for annotation in annotations:
        seen[annotation['image_id']].add(annotation['category_id'])
    for image in contents['images']:
        image['coco_url'] = f'http://images.cocodataset.org/{split}2017/{image.pop("file_name")}'
        image['neg_category_ids'] = sorted({*numbers.values()} - seen[image['id']])
        image['not_exhaustive_category_ids'] = []
    contents.update(annotations=annotations, categories=lvis_categories(annotations))
    (root / f'annotations/lvis_v1_{split}.json').write_text(json.dumps(contents))


def _write_imagenet(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    names = sorted(SILHOUETTES)
    folders = {name: root / 'imagenet' / split / SCENE_CLASSES[name].wordnet for name in names}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for index in indices:
        name = names[index % len(names)]  # every class equally often
        scene = render_object(request.generator(split, index), name, request.height, request.width)
        path = folders[name] / f'{folders[name].name}_{index + 1:08d}.JPEG'
        _write_image(path, scene.image)


def _write_unlabelled(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    (root / split).mkdir()
    for index, scene in _scenes(request, split, indices):
        _write_image(root / split / f'scene_{index + 1:08d}.jpg', scene.image)


def _write_label_maps(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    layout, which = LAYOUTS[request.kind], _SPLITS.index(split)
    table = np.full(256, layout.rest, dtype=np.uint8)
    for name, value in layout.values.items():
        table[SCENE_CLASSES[name].ade20k] = value
    table[0] = layout.unknown
    for index in indices:
        render = render_from_above if layout.from_above else render_scene
        scene = render(request.generator(split, index), request.height, request.width)
        name = layout.names[which].format(2 * index + 1 + which)  # numbers are never shared between the splits
        image, labels = (
            root / path.format(split=layout.splits[which], name=name) for path in (layout.image, layout.label)
        )
        for path in (image, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) if layout.grey else scene.image
        _write_image(image, picture)
        _write_image(labels, table[scene.labels])


def _write_dota(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    """As mmrotate's tools/data/dota/split leaves the tiles of DOTA: each a picture and a text, a line for each object.

    A line is ``x1 y1 x2 y2 x3 y3 x4 y4 class difficulty``; a tile's name is that of its image, then size and place.
    """
    images, texts = root / split / 'images', root / split / 'annfiles'
    for folder in (images, texts):
        folder.mkdir(parents=True)
    for index in indices:
        name = f'P{2 * index + 1 + _SPLITS.index(split):04d}__{request.width}__0___0'
        image, objects = render_oriented(request.generator(split, index), request.height, request.width)
        _write_image(images / f'{name}.png', image)
        lines = (
            f'{" ".join(f"{x:.1f}" for x in one.corners.ravel())} {one.name} {one.difficulty}\n' for one in objects
        )
        (texts / f'{name}.txt').write_text(''.join(lines))


def _write_vspw(request: _Request, root: Path, split: str, indices: Iterable[int]) -> None:
    table = np.zeros(256, dtype=np.uint8)
    for name, value in VSPW_NUMBERS.items():
        table[SCENE_CLASSES[name].ade20k] = value
    names: list[str] = []
    for index in indices:
        video, frame = divmod(index, VIDEO_FRAMES)
        if frame == 0:
            names.append(f'{2 * video + 1 + _SPLITS.index(split)}_scene')  # never shared between the splits
            count = min(VIDEO_FRAMES, getattr(request, split) - index)
            moving = moving_scene(request.generator(split, video), request.height, request.width, count)
            folders = [root / 'data' / names[-1] / part for part in ('origin', 'mask')]
            for folder in folders:
                folder.mkdir(parents=True)
        image, labels = next(moving)
        _write_image(folders[0] / f'{frame:08d}.jpg', image)
        _write_image(folders[1] / f'{frame:08d}.png', table[labels])
    (root / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))


_WRITERS: dict[str, Callable[[_Request, Path, str, Iterable[int]], None]] = {
    'ade20k': _write_ade20k,
    'coco': _write_coco,
    'captions': _write_captions,
    'lvis': _write_lvis,
    'imagenet': _write_imagenet,
    'unlabelled': _write_unlabelled,
    'dota': _write_dota,
    'vspw': _write_vspw,
    **dict.fromkeys(LAYOUTS, _write_label_maps),
}

#: Kinds of data sets that :func:`ensure_miniature` makes.
KINDS = tuple(_WRITERS)
