"""Label maps, judged as the pipeline of their data set would see them."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from .file_names import Folders, check_files, check_listing
from .heads import check_heads, heads_of
from .label_files import TURNED, Pair, examine_all
from .label_reading import Reading, reading_of, reduced
from .spread import spread
from .tally import Kind, Severity, Tally

CONVERT = 'python tools/convert_labels.py'

UNDECODABLE = Kind(Severity.ERROR, 'files that cannot be decoded', 'copy or export them again.')
CUT_OFF = Kind(Severity.WARNING, 'images that end too early', 'copy them again: what is missing is read as grey.')
SIZES = Kind(
    Severity.ERROR, 'label maps of another size than their image', 'export them again at the size of the image.'
)
TURNED_IMAGES = Kind(
    Severity.ERROR,
    'images that EXIF turns by 90 degrees, while their label maps are not turned',
    'turn the label maps, or save the images without EXIF (the label maps then fit).',
)
MAYBE_TURNED = Kind(
    Severity.WARNING,
    'images that EXIF turns or mirrors, with label maps of the same size either way',
    'look at some: label maps have to fit the image as a viewer shows it.',
)
WIDE = Kind(
    Severity.ERROR,
    'label maps with values above 255, which wrap modulo 256 when they are read',
    'export them with 8 bits: numbers of classes from 0 on, 255 for pixels that are left out.',
)
FRACTIONS = Kind(
    Severity.ERROR, 'label maps whose values are not whole numbers', 'export the numbers of the classes with 8 bits.'
)
IGNORED = Kind(
    Severity.WARNING, 'label maps whose pixels are all left out', 'take them away: they teach and measure nothing.'
)
NO_LABELS = Kind(
    Severity.ERROR,
    'images without label maps',
    'name their folder: data_prefix=dict(img_path=..., seg_map_path=...), and LoadAnnotations in the pipeline.',
)
UNLABELLED_TEST = Kind(
    Severity.WARNING,
    'test set without labels',
    'nothing can be measured; tools/test.py --out FOLDER keeps predictions.',
)


@dataclass
class LabelStatistics:
    """What people want to know of label maps.

    Attributes:
        classes: Names of the classes.
        pixels: int64, number of pixels of each class.
        images: int64, number of label maps that have the class.
        ignored: Pixels that are left out.
        total: All pixels.
        sizes: How many images there are of each width and height, as they are read.
        files: Images in the data set, read or not.
        read: Label maps that were read.
    """

    classes: tuple[str, ...]
    pixels: np.ndarray
    images: np.ndarray
    ignored: int = 0
    total: int = 0
    sizes: Counter = field(default_factory=Counter)
    files: int = 0
    read: int = 0


def is_label_maps(dataset: Any) -> bool:
    """Whether a data set (not one that wraps others) has images and label maps as mmseg's have."""
    return all(hasattr(dataset, name) for name in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label'))


def build(cfg: dict) -> Any:
    """The data set of a config, none that wraps others, such that :func:`check_label_maps` has it list its files."""
    return DATASETS.build({**cfg, 'lazy_init': True})


def samples_of(dataset: Any) -> Iterator[tuple[str, str | None]]:
    """Image and label map (None without one) of every sample."""
    for number in range(len(dataset)):
        info = dataset.get_data_info(number)
        yield info['img_path'], info.get('seg_map_path')


def check_label_maps(
    dataset: Any,
    model: dict,
    tally: Tally,
    stage: str = 'train',
    images: int | None = None,
    seconds: float | None = None,
    processes: int | None = None,
    progress=iter,
) -> LabelStatistics:
    """Check a data set of label maps: that all files are there, and what is in all of them or a sample.

    Args:
        dataset: As :func:`build` makes it, by the config's own class and with its pipeline.
        model: Config of the model, whose heads say which values they know.
        tally: Takes the faults.
        stage: ``'train'``, ``'val'`` or ``'test'``.
        images: Read as many, evenly spread; all by default, where also classes without a pixel are looked for.
        seconds: Stop reading after so long.
        processes: Their number; the cores of this process by default.
        progress: Wraps the iterator over what was read.

    Returns:
        Statistics of what was read.
    """
    folders = Folders()
    files = list(samples_of(dataset)) if _lists(dataset, tally) else []
    classes = dataset.metainfo.get('classes')
    check_heads(model, classes, tally, stage)
    statistics = LabelStatistics(
        tuple(classes or ()), *(np.zeros(len(classes or ()), dtype=np.int64) for _ in range(2)), files=len(files)
    )
    if not getattr(dataset, 'ann_file', '') or os.path.isdir(dataset.ann_file):
        listed = dataset.data_prefix.get('img_path')
        if listed is not None:
            check_listing(dataset, {'img_suffix': listed}, len(files), tally)
    reading = reading_of(dataset)
    unlabelled = [image for image, label in files if label is None]
    if unlabelled or (reading is None and files and stage != 'test'):
        kind = UNLABELLED_TEST if stage == 'test' else NO_LABELS
        tally.add(kind, (unlabelled or [files[0][0]])[0], len(unlabelled) or len(files))
    if reading is None:
        files = [(image, None) for image, _ in files]
    there = check_files(files, dataset, folders, tally)
    chosen = spread(there, images)
    backend = reading.backend if reading else 'pillow'
    pairs = examine_all(chosen, backend, processes, seconds, progress)
    judge = Judge(dataset, model, reading, tally, statistics)
    for pair in pairs:
        judge.add(pair)
    judge.conclude(whole=images is None and len(pairs) == len(files))
    return statistics


def _lists(dataset: Any, tally: Tally) -> bool:
    """Have a data set list its files, if it has not yet."""
    dataset.serialize_data = False  # which fails where there is nothing to serialize
    try:
        dataset.full_init()
    except (AssertionError, OSError) as error:
        kind = Kind(
            Severity.ERROR, 'data sets that cannot list their files', 'correct data_root, data_prefix or ann_file.'
        )
        tally.add(kind, str(error))
        return False
    return True


class Judge:
    """Judges what was read of label maps, one after the other, and at the end all of them.

    Args:
        dataset: Whose label maps they are.
        model: Config of the model.
        reading: How the pipeline reads them; None if it does not.
        tally: Takes the faults.
        statistics: Takes the numbers.
    """

    def __init__(
        self, dataset: Any, model: dict, reading: Reading | None, tally: Tally, statistics: LabelStatistics
    ) -> None:
        self.dataset = dataset
        self.reading = reading
        self.tally = tally
        self.statistics = statistics
        heads = list(heads_of(model))
        self.known = min((head.values for head in heads), default=len(statistics.classes) or 256)
        ignored = {head.ignore_index for head in heads if head.ignore_index is not None}
        self.ignored = ignored or {getattr(dataset, 'ignore_index', 255)}
        self.reduces = bool(getattr(dataset, 'reduce_zero_label', False))
        self.raw = np.zeros(256, dtype=np.int64)  # pixels of every value, in label maps of 8 bits
        self.outside: list[tuple[str, dict[int, int]]] = []
        self.all_ignored: list[str] = []
        self.binary: list[str] = []  # label maps of 0 and 255 alone
        self.coloured: list[Pair] = []

    def add(self, pair: Pair) -> None:
        """Judge one image and its label map."""
        statistics = self.statistics
        statistics.read += pair.label is not None
        if pair.image_fault:
            self.tally.add(UNDECODABLE if pair.image_fault == 'undecodable' else CUT_OFF, pair.image)
        if pair.label_fault:
            self.tally.add(UNDECODABLE, f'{pair.label} ({pair.label_fault})')
        size = pair.size
        if size is not None:
            turned = self.reading is not None and self.reading.turns and pair.orientation in TURNED
            size = size[::-1] if turned else size
            statistics.sizes[size] += 1
        if pair.label_size is None:
            return
        self._sizes(pair, size)
        if pair.channels > 1:
            self.coloured.append(pair)
        elif not pair.whole:
            self.tally.add(FRACTIONS, pair.label)
        elif len(pair.values) and (pair.values[-1] > 255 or pair.values[0] < 0):
            self.tally.add(WIDE, f'{pair.label}: values {int(pair.values[0])} to {int(pair.values[-1])}')
        else:
            self._values(pair)

    def _sizes(self, pair: Pair, size: tuple[int, int] | None) -> None:
        if size is None:
            return
        turns = self.reading.turns and pair.orientation != 1
        place = f'{pair.label}: {_by(pair.label_size)}, its image {_by(size)}'
        if pair.label_size != size:
            turned = turns and pair.orientation in TURNED and pair.label_size == pair.size
            self.tally.add(TURNED_IMAGES if turned else SIZES, place)
        elif turns and (pair.orientation not in TURNED or size[0] == size[1]):
            self.tally.add(MAYBE_TURNED, pair.image)

    def _values(self, pair: Pair) -> None:
        values, counts = pair.values.astype(np.int64), pair.counts
        self.raw[values] += counts
        trained = self.reading.table[values]
        left_out = np.isin(trained, list(self.ignored))
        outside = ~left_out & (trained >= self.known)
        statistics = self.statistics
        statistics.total += int(counts.sum())
        statistics.ignored += int(counts[left_out].sum())
        inside = ~left_out & (trained < len(statistics.classes))
        np.add.at(statistics.pixels, trained[inside], counts[inside])
        statistics.images[np.unique(trained[inside])] += 1
        if outside.any():
            pairs = zip(values[outside].tolist(), counts[outside].tolist(), strict=True)
            self.outside.append((pair.label, dict(pairs)))
        if left_out.all():
            self.all_ignored.append(pair.label)
        if set(values.tolist()) <= {0, 255}:
            self.binary.append(pair.label)

    def conclude(self, whole: bool) -> None:
        """Judge what only all label maps together tell.

        Args:
            whole: Whether all label maps of the data set were read.
        """
        self._colours()
        masks = bool(self.binary) and self.raw[0] > 0 and self.raw[255] > 0 and self._read() == len(self.binary)
        if masks:
            self._masks()
        else:
            self._outside()
            self._all_ignored()
            self._first_class()
        if whole and not masks and not self.outside and not self._classes_are_given():
            self._missing_classes()

    def _read(self) -> int:
        """Label maps of one channel and 8 bits."""
        return self.statistics.read - len(self.coloured) - self.tally[WIDE].count - self.tally[FRACTIONS].count

    def _masks(self) -> None:
        folder = os.path.dirname(self.binary[0])
        kind = Kind(
            Severity.ERROR,
            'masks of 0 and 255 alone: 255 is left out, so the foreground is never learned',
            f'if white is a class, write 1 for it: {CONVERT} {folder} {folder}_1 --values 255=1, and set seg_map_path; '
            'if white means "do not care", the labels lack the other classes: draw them.',
        )
        for file in self.binary:
            self.tally.add(kind, file)

    def _outside(self) -> None:
        if not self.outside:
            return
        other = reduced(self.reading.table, self.reduces)
        setting = f'reduce_zero_label={not self.reduces}'
        values = {value for _, found in self.outside for value in found}
        remedy = f'expected 0 to {self.known - 1}, and 255 for what is left out; correct the files or num_classes.'
        fits = all(other[value] < self.known or other[value] in self.ignored for value in np.flatnonzero(self.raw))
        if fits and not self.reduces and values == {self.known} and self.dataset.label_map is None:
            remedy += f' Counted from 1, with 0 for what is left out? Then set {setting}.'
        elif fits and self.reduces:
            remedy += f' Counted from 0? Then set {setting}.'
        kind = Kind(Severity.ERROR, 'label maps with values of no class', remedy)
        for file, found in self.outside:
            named = ', '.join(f'{value} ({count} pixels)' for value, count in list(found.items())[:5])
            more = f' and {len(found) - 5} other values' if len(found) > 5 else ''
            becomes = ', '.join(f'{value} would be {other[value]}' for value in list(found)[:5])
            self.tally.add(kind, f'{file}: {named}{more}; with {setting} {becomes}')

    def _all_ignored(self) -> None:
        kind = IGNORED
        if self.all_ignored and len(self.all_ignored) == self._read():
            remedy = 'correct the labels or reduce_zero_label: the loss would be 0 and the mIoU nan.'
            kind = Kind(Severity.ERROR, 'label maps whose pixels are all left out, in every file', remedy)
        for file in self.all_ignored:
            self.tally.add(kind, file)

    def _first_class(self) -> None:
        """Values 0 to num_classes - 1, all of them and no other, are hardly counted from 1."""
        present = np.flatnonzero(self.raw[:255])
        if not self.reduces or self.dataset.label_map is not None or self.known < 2:
            return
        if len(present) == self.known and present[-1] == self.known - 1:
            kind = Kind(
                Severity.WARNING,
                'values from 0 on under reduce_zero_label=True, which leaves 0 out and moves all others down by one',
                'if 0 is the first class, set reduce_zero_label=False.',
            )
            self.tally.add(kind, f'values 0 to {self.known - 1} for {self.known} classes')

    def _classes_are_given(self) -> bool:
        """Whether the classes are those of a published data set, which a part of it need not have all."""
        given = type(self.dataset).METAINFO.get('classes')
        return given is not None and tuple(given) == self.statistics.classes

    def _missing_classes(self) -> None:
        kind = Kind(
            Severity.WARNING,
            'classes that no pixel has',
            'take them off the list, or look whether numbers are shifted.',
        )
        if not self.statistics.pixels.any():
            return
        for number in np.flatnonzero(self.statistics.pixels == 0):
            self.tally.add(kind, f'{number} {self.statistics.classes[number]}')

    def _colours(self) -> None:
        if not self.coloured:
            return
        palette = {tuple(int(channel) for channel in colour) for colour in self.dataset.metainfo.get('palette') or ()}
        of_palette = all(pair.colours and pair.colours <= palette for pair in self.coloured)
        grey = all(pair.colours and all(r == g == b for r, g, b in pair.colours) for pair in self.coloured)
        folder = os.path.dirname(self.coloured[0].label)
        command = f'{CONVERT} {folder} {folder}_numbers'
        if self.reading.backend == 'cv2':
            remedy = "leave imdecode_backend of LoadAnnotations at 'pillow', which keeps the numbers of palette images."
        elif of_palette:
            remedy = f'the colours are those of metainfo.palette: {command} --palette CONFIG writes their numbers.'
        elif grey:
            remedy = f'the three channels are equal: {command} --grey writes one of them.'
        else:
            remedy = (
                f'give metainfo.palette the colours of the classes; {command} --palette CONFIG then writes numbers.'
            )
        kind = Kind(Severity.ERROR, 'label maps in colours instead of numbers of classes', remedy)
        for pair in self.coloured:
            unknown = sorted(pair.colours - palette)
            tail = f', not in metainfo.palette: {unknown[0]}' if unknown and not grey else ''
            self.tally.add(kind, f'{pair.label} ({pair.channels} channels{tail})')


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'
