"""Running models on images, videos, and images too large for memory."""

from .choose import choose
from .inferencer import build_inferencer, draw, predict
from .large import segment_large

__all__ = ['build_inferencer', 'choose', 'draw', 'predict', 'segment_large']
