"""Images with captions."""

from __future__ import annotations

from statistics import median
from typing import Any

from mmvim.errors import UserError

from .checker import Progress, Statistics
from .other import OtherChecker
from .tally import Kind, Severity, Tally


class CaptionChecker(OtherChecker):
    """Checks what :class:`OtherChecker` does, and whether captions fit into the model."""

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        """Whether a data set is of mmvim's ``Captions``."""
        return 'Captions' in {base.__name__ for base in type(dataset).__mro__}

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        """As :meth:`OtherChecker.full`, and how many captions there are."""
        tally, statistics = super().full(images, progress)
        if self._files:
            counts = [len(info['captions']) for info in self._infos]
            words = [len(caption.split()) for info in self._infos for caption in info['captions']]
            statistics.facts |= {
                'captions': str(sum(counts)),
                'captions of an image': f'{min(counts)} to {max(counts)}, median {median(counts):g}',
                'words of a caption': f'{min(words)} to {max(words)}, median {median(words):g}',
            }
        return tally, statistics

    def _there(self, tally: Tally) -> list[str]:
        there = super()._there(tally)
        if self._files:
            self._find_long(tally)
        return there

    def _find_long(self, tally: Tally) -> None:
        from mmvim.models.pretraining.text import TextTransformer
        from mmvim.models.pretraining.tokenizer import is_cut

        text = (self.cfg.get('model') or {}).get('text') or {}
        length = text.get('context_length', TextTransformer.CONTEXT_LENGTH)
        kind = Kind(
            Severity.NOTE,
            f'captions of more than {length} tokens',
            'what is behind is not read; model.text.context_length can be raised.',
        )
        try:
            for info in self._infos:
                for caption in info['captions']:
                    if is_cut(caption, length):
                        tally.add(kind, f'{info["img_path"]}: {caption[:60]}...')
        except UserError:  # without a tokenizer there is no model either, which says so
            return
