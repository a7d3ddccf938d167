"""DeiT, the plain transformer that Vim is compared with: https://arxiv.org/abs/2012.12877."""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import MLP, DropPath, drop_path_rates
from mmvim.registry import register_model

from .base import run_block
from .plain import PlainBackbone


class Attention(nn.Module):
    """Attention of every token to every other, by torch's fused operator.

    Args:
        dims (int): C, channels of a token.
        heads (int): Number of heads, a divisor of C.
    """

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to (B, L, C)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class DeiTBlock(nn.Module):
    """Attention and an MLP, each behind a norm and with a residual connection.

    Args:
        dims (int): C, channels of a token.
        heads (int): Number of heads.
        drop_path (float): Probability of leaving a branch out.
    """

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.norm2 = nn.LayerNorm(dims, eps=1e-6)
        self.mlp = MLP(dims, 4 * dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to (B, L, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@register_model
class DeiT(PlainBackbone):
    """The peer of Vim: a plain vision transformer with global attention in every block.

    A PyTorch implementation of `Training data-efficient image transformers <https://arxiv.org/abs/2012.12877>`_ as a
    dense backbone, with everything around the blocks as in :class:`Vim`: any size of image, the position embedding
    resized to it, no class token, outputs from the residual stream without a final norm.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims``, ``depth`` and ``heads``.
        pretrain_img_size (int): Side of the images that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned; negative ones count from the end.
            Blocks behind the last of them are not computed.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = DeiT('tiny', out_indices=(2, 5, 8, 11))
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 320))]
        [(1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20)]
    """

    blocks_name: ClassVar[str] = 'blocks'
    tokens_first: ClassVar[bool] = True

    def __init__(
        self,
        arch: str | dict = 'tiny',
        pretrain_img_size: int = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        dims, heads = arch['embed_dims'], arch['heads']
        if dims % heads:
            raise UserValueError(f'embed_dims {dims}: expected a multiple of the {heads} heads')
        super().__init__(dims, arch['depth'], out_indices, frozen_stages, with_cp, init_cfg)
        self._add_embedding(in_channels, 16, 16, pretrain_img_size)
        rates = drop_path_rates(drop_path_rate, self.depth)
        self.blocks = nn.ModuleList(DeiTBlock(dims, heads, rate) for rate in rates)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C, ceil(H / 16), ceil(W / 16)) per ``out_indices``.

        Raises:
            ValueError: If the image has other channels or is smaller than a patch.
        """
        x, grid = self.patch_embed(image)
        x = x + self.position_embedding(self.pos_embed, grid)
        outs = []
        for i, block in enumerate(self.used_stages()):
            x = run_block(self, block, x)
            if i in self.out_indices:
                outs.append(self._to_map(x, grid))
        return tuple(outs)

    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], {'embed_dims': 192, 'depth': 12, 'heads': 3}),
        **dict.fromkeys(['s', 'small'], {'embed_dims': 384, 'depth': 12, 'heads': 6}),
        **dict.fromkeys(['b', 'base'], {'embed_dims': 768, 'depth': 12, 'heads': 12}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depth', 'heads'}
    optional: ClassVar[set[str]] = set()
