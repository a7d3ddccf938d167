"""Label values that no head knows, found by the name of their file before they reach a kernel."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.registry import HOOKS


@HOOKS.register_module()
class LabelWatchHook(Hook):
    """Stop training at a label map with values that are no classes, and say whose it is.

    On a GPU such a value ends in an assertion inside a kernel that names nothing; on a CPU in an ``IndexError``, or in
    training on. Looks at label maps (``gt_sem_seg``) as the loader delivers them, in main memory.

    Label maps in colours, or of another size than their image, are named as well.

    Raises:
        ValueError: With the file, the values, and their numbers of pixels.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Ask the heads which values they know."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        heads = list(_heads(model))
        self._known = min((2 if head.out_channels == 1 else head.num_classes for head in heads), default=None)
        ignored = {getattr(head, 'ignore_index', 255) for head in heads} - {None}
        self._ignored = sorted(ignored)
        self._warned = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Look at the label maps of a batch."""
        if self._known is None or not isinstance(data_batch, dict):
            return
        left_out = []
        samples = data_batch.get('data_samples') or ()
        for sample, image in zip(samples, data_batch.get('inputs', ()), strict=False):
            label = getattr(getattr(sample, 'gt_sem_seg', None), 'data', None)
            if label is None or label.is_cuda:
                continue
            _check_form(sample, label, image)
            highest = self._highest_class(label)
            if highest is None or highest >= self._known:
                self._judge(sample, label)
            left_out.append(highest == -1)
        if left_out and all(left_out) and not self._warned:
            self._warned = True
            runner.logger.warning(
                'every pixel of this batch is left out of the loss, which is 0: if that is not rare, look at the label '
                'maps and at reduce_zero_label (said once)'
            )

    def _highest_class(self, label: Tensor) -> int | None:
        """The highest value besides 255, -1 if there is none, or None if that is not to be had in a glance."""
        lowest, highest = (int(bound) for bound in label.aminmax())
        if lowest >= 0 and highest < self._known:
            return highest
        if lowest >= 0 and highest == 255 and self._ignored == [255]:
            return int((label.to(torch.uint8) + 1).max()) - 1  # 255 becomes 0; several times faster than comparing
        return None

    def _judge(self, sample: Any, label: Tensor) -> None:
        counted = (label >= 0) & (label < self._known)
        for value in self._ignored:
            counted |= label == value
        if not counted.all():
            raise UserValueError(self._sentence(sample, label[~counted]))

    def _sentence(self, sample: Any, values: Tensor) -> str:
        found, counts = values.unique(return_counts=True)
        pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
        named = ', '.join(f'{value} ({count} pixels)' for value, count in pairs[:5])
        ignored = ' or '.join(map(str, self._ignored))
        tail = f', or {ignored} for pixels that are left out' if ignored else ''
        return (
            f'{_file(sample)} has values of no class after loading: {named}; expected 0 to {self._known - 1}{tail}. '
            'Correct the labels, num_classes of the heads, or reduce_zero_label.'
        )


def _check_form(sample: Any, label: Tensor, image: Tensor) -> None:
    """See that a label map has one channel and the size of its image."""
    if label.ndim != 3 or label.shape[0] != 1:
        raise UserValueError(
            f'{_file(sample)} is in colours ({label.shape[-1]} channels): expected one number for each pixel.'
        )
    if label.shape[-2:] != image.shape[-2:]:
        (height, width), (image_height, image_width) = label.shape[-2:], image.shape[-2:]
        raise UserValueError(
            f'{_file(sample)} is {width} x {height} after loading, its image {image_width} x {image_height}: expected '
            'label maps of the size of their images.'
        )


def _file(sample: Any) -> str:
    return sample.get('seg_map_path') or f'the label map of {sample.get("img_path", "an image")}'


def _heads(model: nn.Module) -> Iterator[nn.Module]:
    """Heads of a segmentor that classify pixels."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = getattr(model, name, None)
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            finds_edges = type(head).__name__ == 'STDCHead'  # and classifies them, two classes whatever the labels are
            if (
                not finds_edges
                and isinstance(getattr(head, 'num_classes', None), int)
                and hasattr(head, 'out_channels')
            ):
                yield head


def watch_labels(cfg: Config) -> None:
    """Add :class:`LabelWatchHook` to a config that trains a segmentor, unless it has it."""
    hooks = cfg.get('custom_hooks') or []
    if cfg.get('default_scope') != 'mmseg' or any('LabelWatchHook' in str(hook.get('type')) for hook in hooks):
        return
    cfg.custom_hooks = [*hooks, {'type': 'mmvim.LabelWatchHook'}]
