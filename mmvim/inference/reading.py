"""What is read of a large image, and how."""

from __future__ import annotations

from dataclasses import dataclass

from .channels import Channels, to_bgr

TIFFS = ('.tif', '.tiff')
#: Maps that GDAL reads and OpenCV does not: mosaics and stacks of bands, and the bands of Sentinel-2.
MAPS = ('.vrt', '.jp2')
#: Slides that openslide reads; those whose names end like any TIFF are known by ``--level`` and ``--mpp``.
SLIDES = ('.svs', '.ndpi', '.mrxs', '.scn', '.bif', '.svslide', '.vms', '.vmu')


@dataclass(frozen=True)
class Reading:
    """What is read of a large image.

    Attributes:
        channels: bands, and what becomes of their numbers.
        level: of a slide, 0 is the finest.
        mpp: microns per pixel to which a slide is brought.
        background: whether windows that show nothing of a slide but glass are run as well.
    """

    channels: Channels = to_bgr
    level: int | None = None
    mpp: float | None = None
    background: bool = False

    @property
    def of_a_slide(self) -> bool:
        """Whether something is asked that slides have alone."""
        return self.level is not None or self.mpp is not None


#: The whole of it, as a model was trained with images.
PLAIN = Reading()
