"""What mmengine's counter of operations, and with it mmdet's and mmseg's ``get_flops.py``, must know of our models."""

import math

import torch
from mmengine.analysis import complexity_analysis

from mmvim.ops.library import TRACED_FLOPS


def attention(inputs: list[torch._C.Value], outputs: list[torch._C.Value]) -> int:
    """One per multiply-add of both matrix products of ``scaled_dot_product_attention``."""
    query, key, value = (x.type().sizes() for x in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# An analyzer takes its handles from here when it is made; there is no other place for those of a package.
HANDLES = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
HANDLES.update(TRACED_FLOPS)
HANDLES.setdefault('aten::scaled_dot_product_attention', attention)
