"""The numbers of classes of a segmentor's heads, against those of its data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .tally import Kind, Severity, Tally


@dataclass(frozen=True)
class Head:
    """A head of a segmentor.

    Attributes:
        key: Where it is in the config, such as ``'decode_head'`` or ``'auxiliary_head.1'``.
        num_classes: As set.
        out_channels: As set, or the number of classes.
        sigmoid: Whether its losses see each channel by itself.
        ignore_index: The value that it leaves out.
    """

    key: str
    num_classes: int
    out_channels: int
    sigmoid: bool
    ignore_index: int | None

    @property
    def values(self) -> int:
        """Label values that it knows, from 0 on: with one channel, background and foreground."""
        return 2 if self.out_channels == 1 else self.num_classes


def heads_of(model: dict) -> Iterator[Head]:
    """The heads of a segmentor's config that name a number of classes."""
    model = model.get('module') or model  # around it: test-time augmentation
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key)
        several = isinstance(heads, (list, tuple))
        for number, head in enumerate(heads if several else [heads]):
            if not isinstance(head, dict) or not isinstance(head.get('num_classes'), int):
                continue
            if 'STDCHead' in str(head.get('type')):  # classifies edges, which it finds itself
                continue
            queries = 'num_queries' in head  # its out_channels are features
            losses = head.get('loss_decode') or []
            losses = losses if isinstance(losses, (list, tuple)) else [losses]
            yield Head(
                key=f'{key}.{number}' if several else key,
                num_classes=head['num_classes'],
                out_channels=(not queries and head.get('out_channels')) or head['num_classes'],
                # Others than cross entropy see channels by themselves, or say themselves what they want.
                sigmoid=any(loss.get('use_sigmoid') or loss.get('type') != 'CrossEntropyLoss' for loss in losses),
                ignore_index=head.get('ignore_index', 255),
            )


def check_heads(model: dict, classes: Sequence[str] | None, tally: Tally, where: str) -> None:
    """Compare the heads of a config with the classes of a data set.

    Args:
        model: Config of the model.
        classes: Names of the data set's classes; None if it names none.
        tally: Takes the faults.
        where: Name of the data set in the findings.
    """
    heads = list(heads_of(model))
    if not heads:
        return
    if classes is None:
        remedy = "name them in the data set: metainfo=dict(classes=('first', 'second', ...))."
        tally.add(Kind(Severity.ERROR, 'data set without names of classes', remedy), where)
        return
    wanted = len(classes)
    changes = ', '.join(f'{head.key}=dict(num_classes={wanted})' for head in heads if '.' not in head.key)
    change = f'set model = dict({changes}).' if changes else f'set num_classes={wanted} in every head.'
    for head in heads:
        place = f'{where}: {wanted} classes, model.{head.key}.num_classes={head.num_classes}'
        if head.values < wanted:
            tally.add(Kind(Severity.ERROR, 'num_classes is smaller than the number of classes', change), place)
        elif head.num_classes > wanted:
            tally.add(Kind(Severity.WARNING, 'num_classes is larger than the number of classes', change), place)
        if head.out_channels not in (1, head.num_classes):
            remedy = 'leave out_channels out; for two classes out_channels=1 with use_sigmoid=True is possible.'
            place = f'model.{head.key}: out_channels={head.out_channels}, num_classes={head.num_classes}'
            tally.add(Kind(Severity.ERROR, 'out_channels is neither num_classes nor 1', remedy), place)
        if head.out_channels == 1 and not head.sigmoid:
            remedy = "set loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True), or out_channels=2."
            what = 'one output channel under a softmax, which learns nothing'
            tally.add(Kind(Severity.ERROR, what, remedy), f'model.{head.key}')
