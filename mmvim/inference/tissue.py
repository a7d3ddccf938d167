"""What of a slide is tissue."""

from __future__ import annotations

import cv2
import numpy as np

WHITE = np.full(3, 255, np.uint8)
_PALE = 25  # saturation, of 255, that is tissue in any case: Otsu's threshold would drop the palest of two stains


def find_tissue(thumbnail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What has a colour: saturation above a threshold (Otsu 1979), without specks, and a pixel more on all sides.

    Args:
        thumbnail: of the slide, (h, w, 3) uint8, RGB.

    Returns:
        Where there is tissue, (h, w) bool; and the colour of the rest, RGB.
    """
    saturation = cv2.medianBlur(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)[..., 1], 5)
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_OTSU)
    tissue = (saturation > min(threshold, _PALE)).astype(np.uint8)
    tissue = cv2.dilate(tissue, np.ones((3, 3), np.uint8)).astype(bool)
    return tissue, WHITE if tissue.all() else np.median(thumbnail[~tissue], axis=0).astype(np.uint8)
