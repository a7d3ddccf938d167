"""Training of backbones on images without labels, and on images with captions."""

from .clip import CLIP
from .simmim import SimMIM

__all__ = ['CLIP', 'SimMIM']
