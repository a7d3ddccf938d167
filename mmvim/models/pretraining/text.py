"""The part that reads: a transformer over the tokens of a text."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mmvim.errors import UserValueError


class TextTransformer(nn.Module):
    """A text as one vector, as in `CLIP <https://arxiv.org/abs/2103.00020>`_.

    Every token sees those before it, so that the output at the end of the text has seen all of them, and what is filled
    up behind the end changes nothing.

    Args:
        vocabulary_size (int): Tokens that there are; the last of them marks the end of a text.
        context_length (int): Tokens that a text may have, the marks of its beginning and end among them.
        dims (int): C, channels of a token.
        depth (int): Number of layers.
        num_heads (int): Heads of the attention, which divide the channels.

    Raises:
        ValueError: If numbers do not fit each other.
    """

    CONTEXT_LENGTH: ClassVar[int] = 77

    def __init__(
        self,
        vocabulary_size: int,
        context_length: int = CONTEXT_LENGTH,
        dims: int = 384,
        depth: int = 6,
        num_heads: int = 6,
    ) -> None:
        super().__init__()
        if min(dims, depth, num_heads) < 1 or dims % num_heads or context_length < 3:
            raise UserValueError(
                f'text=dict(context_length={context_length}, dims={dims}, depth={depth}, num_heads={num_heads}): '
                'expected at least 3 tokens, 1 layer, and channels that the heads divide'
            )
        self.context_length, self.dims = context_length, dims
        self.vocabulary = nn.Embedding(vocabulary_size, dims)
        self.pos_embed = nn.Parameter(torch.empty(context_length, dims))
        self.pos_embed._no_weight_decay = True
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dims, num_heads, 4 * dims, dropout=0.0, activation='gelu', batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dims)
        self._init()

    def _init(self) -> None:
        """As CLIP: small embeddings, and branches that shrink with the number of layers."""
        nn.init.normal_(self.vocabulary.weight, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.01)
        width, branch = self.dims**-0.5, (2 * len(self.layers)) ** -0.5
        for layer in self.layers:
            nn.init.normal_(layer.self_attn.in_proj_weight, std=width)
            nn.init.normal_(layer.self_attn.out_proj.weight, std=width * branch)
            nn.init.normal_(layer.linear1.weight, std=(2 * self.dims) ** -0.5)
            nn.init.normal_(layer.linear2.weight, std=width * branch)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) of int64, L at most ``context_length``, to vectors (B, C)."""
        length = tokens.shape[1]
        x = self.vocabulary(tokens) + self.pos_embed[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=later, is_causal=True)
        ends = tokens.argmax(1)
        return self.norm(x[torch.arange(len(x), device=x.device), ends])
