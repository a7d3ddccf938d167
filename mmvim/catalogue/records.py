"""What the zoo says of a model. Plain data: nothing here needs torch or OpenMMLab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Of each task: the data set.
DATASETS = {'seg': 'ADE20K', 'det': 'COCO', 'imagenet': 'ImageNet-1k'}
#: Images in a test batch. Pinned, for a detector pads a batch to its largest image, which changes its predictions.
TEST_BATCH_SIZE = {'seg': 1, 'det': 1, 'imagenet': 64}
#: By the name of a metric: its name in the results of a test, and what turns that value into percent.
METRICS = {
    'mIoU': ('mIoU', 1),
    'mIoU (ms+flip)': ('mIoU', 1),
    'box AP': ('coco/bbox_mAP', 100),
    'box AP50': ('coco/bbox_mAP_50', 100),
    'box AP75': ('coco/bbox_mAP_75', 100),
    'mask AP': ('coco/segm_mAP', 100),
    'mask AP50': ('coco/segm_mAP_50', 100),
    'mask AP75': ('coco/segm_mAP_75', 100),
    'top-1': ('accuracy/top1', 1),
    'top-5': ('accuracy/top5', 1),
}
#: Metrics that a short list shows.
HEADLINES = ('top-1', 'mIoU', 'mIoU (ms+flip)', 'box AP', 'mask AP')
#: Metrics that are measured with test-time augmentation.
TTA_METRICS = frozenset({'mIoU (ms+flip)'})


@dataclass(frozen=True)
class Published:
    """A number that somebody published.

    Attributes:
        metric: A key of :data:`METRICS`.
        value: In percent.
        source: Where it stands.
    """

    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Flops:
    """Operations of one image; a multiply-add is one.

    Attributes:
        billions: How many, in units of 1e9.
        size: Of the image, height x width.
        source: Where the number stands.
    """

    billions: float
    size: str
    source: str


@dataclass(frozen=True)
class OfficialFile:
    """A file of weights as its authors publish it.

    Attributes:
        name: Of the file.
        page: Where people find it, without ``https://``.
        address: Where a program gets it.
        sha256: Its checksum, where that is published.
        terms: What limits its use, in words; None where its licence is that of the repository and limits nothing.
    """

    name: str
    page: str
    address: str
    sha256: str | None = None
    terms: str | None = None


@dataclass(frozen=True)
class Model:
    """A model on a task.

    Attributes:
        name: Unique; that of the config, except for models that are another one's config with other weights.
        title: Of the backbone, for people.
        variant: Of the backbone, for patterns, such as ``'vmamba_t_s2l5'``.
        family: ``'Vim'``, ``'VMamba'``, ...
        task: ``'seg'``, ``'det'`` or ``'imagenet'``.
        method: What the backbone works in: UPerNet, Mask R-CNN, ...
        config: Path of the config in the repository.
        parameters: Their number, counted on the model that the config builds.
        long_name: In the style of OpenMMLab, for the metafile.
        published: Numbers of the authors, for ``weights`` if there are any.
        flops: Operations, as published.
        weights: The published file of the whole model.
        start: Name of the published file that training starts from.
        batch_size: Images in a step of training, over all GPUs.
        recipe: What there is to say of how it is trained.
    """

    name: str
    title: str
    variant: str
    family: str
    task: str
    method: str
    config: str
    parameters: int
    long_name: str
    published: tuple[Published, ...] = ()
    flops: Flops | None = None
    weights: OfficialFile | None = None
    start: str | None = None
    batch_size: int | None = None
    recipe: str = field(default='')

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return DATASETS[self.task]

    @property
    def test_batch_size(self) -> int:
        """Images in a batch of a test."""
        return TEST_BATCH_SIZE[self.task]

    def value(self, metric: str) -> float | None:
        """The published value of a metric, in percent."""
        return next((number.value for number in self.published if number.metric == metric), None)


def classifier(family: str, variant: str, title: str, **others: Any) -> Model:
    """The record of an ImageNet classifier at 224 pixels; ``others`` are the fields that its name does not tell."""
    name = f'{variant}_imagenet'
    return Model(
        name=name,
        title=title,
        variant=variant,
        family=family,
        task='imagenet',
        method='classifier',
        config=f'configs/{family.lower()}/{name}.py',
        long_name=f'{variant.replace("_", "-")}_in1k-224',
        **others,
    )


@dataclass(frozen=True)
class Family:
    """All that is known of a family: its models, its files, where it comes from, and how it is drawn.

    Attributes:
        name: ``family`` of its models.
        readme: Path of its README in the repository, beside which its configs are.
        models: In the order in which they are listed.
        files: Every published file, also those that no model consists of.
        architecture: What it is built of, for the metafile.
        paper: Title and address.
        code: Address of the official repository.
        license: Of that repository, by its full name.
        backbone: Name of its class in :mod:`mmvim.models`; None where the backbones are those of others.
        titles: Of variants that are called otherwise than their first letter says, by their name in the class.
        colours: By the beginning of a title, for pictures.
    """

    name: str
    readme: str
    models: tuple[Model, ...]
    files: tuple[OfficialFile, ...]
    architecture: tuple[str, ...]
    paper: tuple[str, str] | None = None
    code: str | None = None
    license: str | None = None
    backbone: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
