"""How often an image finds its captions, and a caption its image."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmvim.errors import UserValueError
from mmvim.registry import METRICS

# Captions that are compared with all images at a time.
ROWS = 4096


@METRICS.register_module()
class Retrieval(BaseMetric):
    """Share of the queries, in percent, that find what belongs to them among the k that are most alike (R@k).

    An image finds its captions if one of them is among the first k of all captions. A caption finds its image if that
    is among the first k of all images. Among equals what belongs to the query comes last.

    Args:
        topk (Sequence[int]): The k.
        **kwargs: Of mmengine's ``BaseMetric``.
    """

    default_prefix = 'retrieval'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the vectors of each image and of its captions.

        Raises:
            ValueError: If an image has no captions, or numbers are not finite.
        """
        for sample in data_samples:
            if 'text_embeddings' not in sample:
                raise UserValueError(f'{sample.get("img_path")} has no captions, which mmvim.Retrieval looks for')
            image, texts = sample['image_embedding'].float().cpu(), sample['text_embeddings'].float().cpu()
            if not (torch.isfinite(image).all() and torch.isfinite(texts).all()):
                raise UserValueError(f'vectors of {sample.get("img_path")} or of its captions are not finite')
            self.results.append((image, texts))

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """``image_to_text_R@1``, ..., ``text_to_image_R@1``, ... in percent."""
        images = torch.stack([image for image, _ in results])
        texts = torch.cat([texts for _, texts in results])
        owners = torch.repeat_interleave(torch.tensor([len(texts) for _, texts in results]))
        places = {'image_to_text': _places_of_texts(images, texts, owners)}
        places['text_to_image'] = torch.cat([
            _places_of_images(images, part, owner)
            for part, owner in zip(texts.split(ROWS), owners.split(ROWS), strict=True)
        ])  # fmt: skip
        return {
            f'{way}_R@{k}': 100 * (place < k).double().mean().item() for way, place in places.items() for k in self.topk
        }


def _places_of_images(images: Tensor, texts: Tensor, owners: Tensor) -> Tensor:
    """At which place, from 0, the image of each text (T, D) stands among all images (N, D): (T,)."""
    scores = texts @ images.T
    return (scores >= scores.gather(1, owners[:, None])).sum(1) - 1


def _places_of_texts(images: Tensor, texts: Tensor, owners: Tensor) -> Tensor:
    """At which place, from 0, the best of each image's own texts stands among the texts of all: (N,)."""
    places = []
    for number, image in enumerate(images):
        scores, own = texts @ image, owners == number
        places.append((scores[~own] >= scores[own].max()).sum())
    return torch.stack(places)
