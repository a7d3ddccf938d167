"""Label maps behind the interface that all formats share: what is quick, what is whole, and pictures."""

from pathlib import Path
from time import monotonic

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from test_preflight.test_data.test_label_maps import CLASSES, PALETTE, PIPELINE, heads, label_of, place  # noqa: F401

from mmvim.preflight.data.label_checker import LabelMapChecker
from mmvim.preflight.data.overlap import check_overlap
from mmvim.preflight.data.tally import Tally


def checker(place: Path) -> LabelMapChecker:  # noqa: F811
    entry = ConfigDict(
        type='BaseSegDataset',
        data_root=str(place),
        data_prefix={'img_path': 'images', 'seg_map_path': 'masks'},
        metainfo={'classes': CLASSES, 'palette': PALETTE},
        pipeline=PIPELINE,
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build({**entry, 'lazy_init': True})
    return LabelMapChecker(dataset, entry, 'train', ConfigDict(model=heads()))


def test_full(place):  # noqa: F811
    shown = []

    def progress(items, total, what):
        for item in items:
            shown.append((total, what))
            yield item

    ours = checker(place)
    assert LabelMapChecker.applies_to(ours.dataset) and ours.name == str(place / 'masks')
    tally, statistics = ours.full(None, progress)
    assert list(tally) == []
    assert shown == [(4, 'train: label maps')] * 4
    assert statistics.unit == 'pixels' and list(statistics.classes) == list(CLASSES)
    assert sum(statistics.classes.values()) == 4 * 24 * 32
    assert statistics.facts['image sizes'] == '32 x 24' and statistics.facts['pixels left out'] == '0.0 %'
    assert len(ours.image_files()) == 4


def test_quick_looks_for_every_file_but_opens_none_after_its_time(place):  # noqa: F811
    (place / 'masks/a3.png').unlink()
    (place / 'masks/a0.png').write_bytes(b'')
    found = {kind.what for kind, _ in checker(place).quick(monotonic() + 60)}
    assert found == {'label maps that are missing', 'files that cannot be decoded'}


def test_pictures_have_the_colours_of_the_classes(place, tmp_path):  # noqa: F811
    ours = checker(place)
    ours.full(None, lambda items, total, what: items)
    (tmp_path / 'out').mkdir()
    files = ours.draw(tmp_path / 'out', 2)
    assert len(files) == 2
    picture = np.array(Image.open(files[0])).astype(int)
    assert picture.shape == (24, 64, 3)
    expected = (picture[:, :32] + np.array(PALETTE)[label_of(0)]) // 2
    assert (picture[:, 32:] == expected).all()


def test_images_of_both_parts(place):  # noqa: F811
    for name in ('b0', 'b1'):
        (place / f'images/{name}.jpg').write_bytes((place / f'images/a{name[1]}.jpg').read_bytes())
    train = [str(place / f'images/a{number}.jpg') for number in range(3)]
    for other, contents, expected in (
        (['images/a3.jpg'], True, []),
        (['images/a0.jpg'], False, ['images/a0.jpg']),
        (['images/b1.jpg'], False, []),
        (['images/b1.jpg', 'images/a3.jpg'], True, ['images/b1.jpg (a copy of']),
    ):
        tally = Tally()
        check_overlap(train, [str(place / file) for file in other], tally, contents)
        places = [found for _, seen in tally for found in seen.places]
        assert len(places) == len(expected)
        assert all(part in found for part, found in zip(expected, places, strict=True))
