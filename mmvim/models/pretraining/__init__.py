"""Training of backbones on images without labels."""

from .simmim import SimMIM

__all__ = ['SimMIM']
