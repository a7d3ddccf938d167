"""How often a classifier is right."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmvim.errors import UserValueError
from mmvim.registry import METRICS


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Share of the images, in percent, whose class is among the k that score highest.

    Args:
        topk (Sequence[int]): The k.
        **kwargs: Of mmengine's ``BaseMetric``.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note of each image at which place its class stands, 0 for the first."""
        for sample in data_samples:
            scores, label = sample['pred_scores'], int(sample['gt_label'])
            if not torch.isfinite(scores).all():
                raise UserValueError(f'scores of {sample.get("img_path")} are not finite')
            # Among equals the class in question comes last: a model of equal scores is no good one.
            self.results.append(int((scores >= scores[label]).sum()) - 1)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """``top1``, ``top5``, ... in percent."""
        return {f'top{k}': 100 * sum(place < k for place in results) / len(results) for k in self.topk}
