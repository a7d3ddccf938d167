"""Images with captions, several for each, and the way that they take to a model."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.registry import DATASETS, TRANSFORMS


class Captions(BaseDataset):
    """Images, each with all of its captions.

    Args:
        **kwargs: Of mmengine's ``BaseDataset``; ``data_prefix`` is ``dict(img='train2017')``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another form, a caption is empty or without an image, or there are none.
    """

    def load_data_list(self) -> list[dict]:
        """One entry for each image that has captions, in the order of the file: its path, and its captions."""
        if not Path(self.ann_file).is_file():
            raise UserFileNotFoundError(f'there is no file {self.ann_file} of captions')
        captions: dict[str, list[str]] = {}
        for place, name, caption in self._entries():
            if not isinstance(caption, str) or not caption.strip():
                raise UserValueError(
                    f'{self.ann_file}, {place}: the caption of {name} is empty; write one, or take the entry out'
                )
            captions.setdefault(name, []).append(caption.strip())
        if not captions:
            raise UserValueError(f'{self.ann_file} has no captions')
        root = Path(self.data_prefix.get('img') or self.data_root or '.')
        return [{'img_path': str(root / name), 'captions': texts} for name, texts in captions.items()]

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        """Where each caption is, the file name of its image, and the caption."""
        raise NotImplementedError


@DATASETS.register_module()
class CocoCaptions(Captions):
    """Captions in the form of COCO's ``captions_train2017.json``.

    Args and errors as for :class:`Captions`.
    """

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        try:
            content = json.loads(Path(self.ann_file).read_bytes())
            names = {image['id']: image['file_name'] for image in content['images']}
            entries = [(entry['id'], entry['image_id'], entry['caption']) for entry in content['annotations']]
        except (ValueError, KeyError, TypeError) as error:
            raise UserValueError(
                f"{self.ann_file} is no file of captions in COCO's form ({type(error).__name__}: {str(error)[:100]}): "
                'expected images with id and file_name, and annotations with id, image_id and caption, as '
                'captions_train2017.json has them'
            ) from error
        for number, image, caption in entries:
            if image not in names:
                raise UserValueError(
                    f'{self.ann_file}, annotation {number}: there is no image {image} among its images; add it, or '
                    'take the entry out'
                )
            yield f'annotation {number}', names[image], caption


@DATASETS.register_module()
class CaptionTable(Captions):
    """Captions in a CSV file with a header: one caption in a row, an image in one row or in several.

    Args:
        image_column (str): Header of the paths of images, relative to ``data_prefix['img']``.
        caption_column (str): Header of the captions.
        delimiter (str): What stands between columns, such as a tab.
        **kwargs: As for :class:`Captions`, with its errors.
    """

    def __init__(
        self, image_column: str = 'image', caption_column: str = 'caption', delimiter: str = ',', **kwargs
    ) -> None:
        self.columns, self.delimiter = (image_column, caption_column), delimiter
        super().__init__(**kwargs)

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        with open(self.ann_file, newline='', encoding='utf-8-sig') as file:
            rows = csv.DictReader(file, delimiter=self.delimiter)
            try:
                header = rows.fieldnames or []
                missing = [column for column in self.columns if column not in header]
                if missing:
                    raise UserValueError(
                        f'{self.ann_file} has no column {" and no column ".join(missing)}: its columns are '
                        f'{", ".join(header)}; name yours by image_column, caption_column and delimiter'
                    )
                for row in rows:
                    name, caption = (row[column] for column in self.columns)
                    if not name:
                        raise UserValueError(
                            f'{self.ann_file}, line {rows.line_num}: a caption without an image; name its file, or '
                            'take the row out'
                        )
                    yield f'line {rows.line_num}', name, caption
            except (UnicodeDecodeError, csv.Error) as error:
                raise UserValueError(f'{self.ann_file} is no CSV file in UTF-8 ({error}): export it as one') from error


@TRANSFORMS.register_module()
class DrawCaption(BaseTransform):
    """Take one of an image's captions by chance, every time another."""

    def transform(self, results: dict) -> dict:
        """``captions`` to a list of one."""
        results['captions'] = [results['captions'][np.random.randint(len(results['captions']))]]
        return results


@TRANSFORMS.register_module()
class PackCaptions(BaseTransform):
    """The last step: the image, and a sample with its captions."""

    def transform(self, results: dict) -> dict:
        """``img`` (H, W, C) to ``inputs`` (C, H, W); ``captions`` and ``img_path`` to ``data_samples``."""
        image = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        sample = BaseDataElement(metainfo={key: results[key] for key in ('img_path', 'captions')})
        return {'inputs': image, 'data_samples': sample}
