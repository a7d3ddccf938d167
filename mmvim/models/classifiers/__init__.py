"""Classifiers, to check published ImageNet weights with."""

from .heads import LinearHead, MLPHead
from .image_classifier import ImageClassifier

__all__ = ['ImageClassifier', 'LinearHead', 'MLPHead']
