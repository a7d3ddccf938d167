"""Sentences about classes, by which images are classified without any training on these classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.errors import UserFileNotFoundError, UserValueError


class Prompts:
    """One vector for each class, the mean over several sentences about it (section 3.1.4 of CLIP's paper).

    Args:
        classes (Sequence[str] | str): Names of the classes, in the order of their numbers, or a text file with one in
            each line.
        templates (Sequence[str]): Sentences, with ``{}`` where the name goes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there are no classes, or a template has no place for a name.
    """

    def __init__(self, classes: Sequence[str] | str, templates: Sequence[str] = ('a photo of a {}.',)) -> None:
        if isinstance(classes, str):
            if not Path(classes).is_file():
                raise UserFileNotFoundError(
                    f'prompts.classes: there is no file {classes}; write the name of one class into each line, in the '
                    "order of the classes' numbers, or give a list of names"
                )
            classes = [line.strip() for line in Path(classes).read_text(encoding='utf-8').splitlines() if line.strip()]
        wrong = [template for template in templates if template.count('{}') != 1]
        if wrong or not classes or not templates:
            raise UserValueError(
                f'prompts: expected names of classes, and templates with one {{}} each such as "a photo of a {{}}.", '
                f'got {len(classes)} classes and {wrong[0] if wrong else list(templates)!r}'
            )
        self.classes, self.templates = list(classes), list(templates)

    @torch.no_grad()
    def encode(self, encode_texts: Callable[[list[str]], Tensor]) -> Tensor:
        """Vectors (classes, D) of length 1.

        Args:
            encode_texts: Makes vectors (texts, D) of length 1 of texts.
        """
        means = [
            encode_texts([template.replace('{}', name) for template in self.templates]).mean(0) for name in self.classes
        ]
        return F.normalize(torch.stack(means), dim=1)
