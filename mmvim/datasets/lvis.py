"""The metric of LVIS, under today's numpy."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
from mmengine.evaluator import BaseMetric

from mmvim.errors import UserModuleNotFoundError
from mmvim.registry import METRICS


@METRICS.register_module()
def LVISMetric(**kwargs) -> BaseMetric:  # noqa: N802  registered by this name, as mmdet's class is
    """mmdet's ``LVISMetric``, which measures by the package lvis.

    lvis 0.5.3, its last release, asks for ``np.float``, which numpy 1.24 took away. It is there while it measures.

    Args:
        **kwargs: Of mmdet's.

    Raises:
        ModuleNotFoundError: If lvis is not installed.
    """
    if find_spec('lvis') is None:
        raise UserModuleNotFoundError("LVIS is measured by the package lvis: pip install 'mmvim[lvis]'")
    metric = METRICS.build({'type': 'mmdet.LVISMetric', **kwargs})
    measure = metric.compute_metrics

    def compute_metrics(results: list) -> dict[str, float]:
        with _former_float():
            return measure(results)

    metric.compute_metrics = compute_metrics
    return metric


@contextmanager
def _former_float() -> Iterator[None]:
    if hasattr(np, 'float'):
        yield
        return
    np.float = float
    try:
        yield
    finally:
        del np.float
