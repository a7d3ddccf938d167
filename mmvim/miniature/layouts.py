"""How benchmarks of segmentation lie on a disk behind mmseg's converters, and what their numbers mean.

The folders, the endings and the numbers are those that mmseg's data set classes and ``tools/dataset_converters`` agree
on (onedl-mmsegmentation 1.4.2). Scenes show no organs and no vessels: there a number stands for something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where the files of a benchmark are, and the numbers in its label maps.

    Attributes:
        title: Its name, for people.
        dataset: mmseg's class.
        root: Where the configs look for it.
        splits: Names of the folders of training and validation.
        names: Of a training and of a validation file without ending, with its number in braces.
        image: Path of an image below the root, with ``{split}`` and ``{name}``.
        label: That of its label map.
        values: Numbers of scene classes.
        rest: The number of all other scene classes.
        unknown: The number of what has no name; left out where the benchmark leaves anything out.
        grey: Whether the pictures have no colour.
        from_above: Whether the scenes are landscapes as seen from above.
    """

    title: str
    dataset: str
    root: str
    splits: tuple[str, str]
    names: tuple[str, str]
    image: str
    label: str
    values: Mapping[str, int]
    rest: int = 0
    unknown: int = 0
    grey: bool = False
    from_above: bool = False

    def folder(self, path: str) -> str:
        """The folder of training files in ``image`` or ``label``, without those of single cities."""
        return path.partition('{split}')[0] + self.splits[0]


_ISPRS = {'road': 1, 'building': 2, 'grass': 3, 'tree': 4, 'car': 5}


def _tiles(title: str, dataset: str, root: str, names: tuple[str, str], **others) -> Layout:
    """As mmseg's converters lay out what they cut or rename: images and label maps in ``img_dir`` and ``ann_dir``."""
    paths = {'image': 'img_dir/{split}/{name}.png', 'label': 'ann_dir/{split}/{name}.png', **others}
    return Layout(title, dataset, root, ('train', 'val'), names, **paths)


# Whatever stands in front of a landscape is a vessel.
_VESSEL = dict.fromkeys(('person', 'car', 'boat', 'dog', 'airplane', 'tree'), 1)


def _retina(title: str, dataset: str, root: str, name: str, label: str) -> Layout:
    """As mmseg's converters lay out pictures of the retina; ``label`` is how the names of label maps end."""
    return Layout(
        title,
        dataset,
        root,
        ('training', 'validation'),
        (name, name),
        'images/{split}/{name}.png',
        f'annotations/{{split}}/{{name}}{label}',
        _VESSEL,
        grey=True,
    )


#: By the kind that ``tools/make_miniature.py`` takes.
LAYOUTS = {
    'cityscapes': Layout(
        'Cityscapes',
        'CityscapesDataset',
        'data/cityscapes',
        ('train', 'val'),
        ('aachen/aachen_{:06d}_000019', 'frankfurt/frankfurt_000000_{:06d}'),
        'leftImg8bit/{split}/{name}_leftImg8bit.png',
        'gtFine/{split}/{name}_gtFine_labelTrainIds.png',
        {
            'road': 0, 'building': 2, 'tree': 8, 'grass': 9, 'mountain': 9, 'sky': 10, 'person': 11, 'car': 13,
        },
        rest=255,
        unknown=255,
    ),
    'loveda': _tiles(
        'LoveDA',
        'LoveDADataset',
        'data/loveDA',
        ('{}', '{}'),
        values={'building': 2, 'road': 3, 'water': 4, 'mountain': 5, 'tree': 6, 'grass': 7},
        rest=1,
        from_above=True,
    ),
    'potsdam': _tiles(
        'Potsdam',
        'PotsdamDataset',
        'data/potsdam',
        ('2_10_{}_0_512_512', '2_13_{}_0_512_512'),
        values=_ISPRS,
        rest=6,
        from_above=True,
    ),
    'vaihingen': _tiles(
        'Vaihingen',
        'ISPRSDataset',
        'data/vaihingen',
        ('area1_{}_0_512_512', 'area2_{}_0_512_512'),
        values=_ISPRS,
        rest=6,
        from_above=True,
    ),
    'isaid': _tiles(
        'iSAID',
        'iSAIDDataset',
        'data/iSAID',
        ('P{:04d}_0_896_0_896', 'P{:04d}_0_896_0_896'),
        label='ann_dir/{split}/{name}_instance_color_RGB.png',
        values={'boat': 1, 'car': 9, 'airplane': 14},
        unknown=255,
        from_above=True,
    ),
    'drive': _retina('DRIVE', 'DRIVEDataset', 'data/DRIVE', '{:02d}', '_manual1.png'),
    'chase_db1': _retina('CHASE_DB1', 'ChaseDB1Dataset', 'data/CHASE_DB1', 'Image_{:02d}L', '_1stHO.png'),
    'hrf': _retina('HRF', 'HRFDataset', 'data/HRF', '{:02d}_h', '.png'),
    'stare': _retina('STARE', 'STAREDataset', 'data/STARE', 'im{:04d}', '.ah.png'),
    'synapse': _tiles(
        'Synapse',
        'SynapseDataset',
        'data/synapse',
        ('case0005_slice{:03d}', 'case0008_slice{:03d}'),
        image='img_dir/{split}/{name}.jpg',
        values={
            'person': 1, 'car': 2, 'airplane': 3, 'boat': 4, 'building': 5, 'water': 6, 'mountain': 7, 'tree': 8,
        },
        grey=True,
    ),
}  # fmt: skip
