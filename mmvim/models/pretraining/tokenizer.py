"""Texts as numbers of CLIP's vocabulary, which instant-clip-tokenizer ships."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmvim.errors import UserModuleNotFoundError

if TYPE_CHECKING:
    from instant_clip_tokenizer import Tokenizer

# Every text begins with one token and ends with another.
MARKS = 2


@cache
def tokenizer() -> 'Tokenizer':
    """The tokenizer, which takes a tenth of a second to build.

    Raises:
        ModuleNotFoundError: If instant-clip-tokenizer is not installed.
    """
    try:
        from instant_clip_tokenizer import Tokenizer
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            'images with words need instant-clip-tokenizer, which is not installed: '
            "in the folder of mmvim: pip install -c constraints.txt -e '.[pretrain]'"
        ) from error
    return Tokenizer()


def vocabulary_size() -> int:
    """How many tokens there are; the end of a text is the last of them."""
    return tokenizer().end_of_text() + 1


def tokenize(texts: Sequence[str], context_length: int) -> Tensor:
    """Texts as tokens, those of ``context_length`` and more cut.

    Returns:
        (texts, L) of int64: a mark, the tokens, the mark of the end, and zeros. L is as long as the longest text needs.
    """
    tokens = torch.from_numpy(tokenizer().tokenize_batch(list(texts), context_length=context_length).astype('int64'))
    return tokens[:, : int(tokens.argmax(1).max()) + 1]


def is_cut(text: str, context_length: int) -> bool:
    """Whether a text has more tokens than fit."""
    room = context_length - MARKS
    # No token is shorter than a byte, and lower case, which the tokenizer makes, may take more of them.
    return len(text.lower().encode()) > room and len(tokenizer().encode(text)) > room
