"""Classifiers, to check published ImageNet weights with."""

from .heads import BatchNormHead, LinearHead, MLPHead
from .image_classifier import ImageClassifier

__all__ = ['BatchNormHead', 'ImageClassifier', 'LinearHead', 'MLPHead']
