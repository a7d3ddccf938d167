"""Vision Mamba (Vim): https://arxiv.org/abs/2401.09417."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import MakeWalks, RMSNorm, rope_tables
from mmvim.registry import register_backbone

from .two_streams import TwoStreamBackbone
from .vim_mixer import BidirectionalMixer


class VimBlock(nn.Module):
    """Norm and mixer, without the residual connection: that is the backbone's, which carries two streams.

    Args:
        dims (int): C, channels of a token.
        mixer (dict): Further arguments of :class:`BidirectionalMixer`.
    """

    def __init__(self, dims: int, mixer: dict) -> None:
        super().__init__()
        self.norm = RMSNorm(dims, eps=1e-5)
        self.mixer = BidirectionalMixer(dims, **mixer)

    def forward(self, residual: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The residual stream (B, L, C) of a map of ``grid``, if it is one, to this block's branch, (B, L, C)."""
        return self.mixer(self.norm(residual), grid)


@register_backbone
class Vim(TwoStreamBackbone):
    """Vision Mamba: bidirectional selective scans over a sequence of patches.

    A PyTorch implementation of `Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space
    Model <https://arxiv.org/abs/2401.09417>`_. The defaults are what the published ImageNet files need.

    A block sees the residual stream, and its result (the *branch*) is added to that stream. With stochastic depth this
    addition is what may be dropped.

    Any image size will do: zeros are added at the right and bottom until the last patch is whole, and the position
    embedding is interpolated.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with its keys ``embed_dims``, ``depth``, ``patch_size``
            and ``patch_stride``, and, if wanted, ``d_state``, ``d_conv``, ``expand``, ``dt_rank``.
        pretrain_img_size (int | tuple): Image size (height, width) that the position embedding is made for.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Blocks whose output is returned; negative ones count from the end.
            Blocks behind the last of them are not computed.
        out_type (str): ``'featmap'`` for maps (B, C, Hp, Wp), ``'raw'`` for tokens (B, L, C) with the class token where
            there is one, ``'cls_token'`` for the normed class token (B, C).
        with_cls_token (bool | None): Whether a class token stands in the middle of the sequence. By default only
            for ``out_type='cls_token'``.
        feature (str): What an output shows: ``'residual'``, the residual stream behind the block, or ``'branch'``, what
            the block adds to it (upstream's tiny segmentation model).
        final_norm (bool): Whether the output of the last block is normed; always for ``'cls_token'``.
        average_directions (bool): Whether the sum of the walks is divided by their number, as in the published models.
        rope (bool): Whether tokens are rotated by their position in front of each block (upstream's dense models).
        rope_residual (bool): Whether the residual stream is rotated too; needs ``rope``.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Blocks that are not trained, the embeddings included: -1 none, 0 the embeddings only,
            n the first n blocks too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which the tokens are scanned, see
            :func:`~mmvim.models.layers.resolve_walks`; each has parameters of its own. With a class token a function
            is asked for walks over one row, and of names ``'bidirectional'`` alone will do.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = Vim('tiny', out_indices=(5, 11, 17, 23))
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 224, 320))]
        [(1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20), (1, 192, 14, 20)]
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'featmap',
        with_cls_token: bool | None = None,
        feature: str = 'residual',
        final_norm: bool = False,
        average_directions: bool = True,
        rope: bool = False,
        rope_residual: bool = False,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'bidirectional',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        super().__init__(
            arch, pretrain_img_size, in_channels, out_indices, out_type, with_cls_token, feature, rope, rope_residual,
            frozen_stages, with_cp, init_cfg,
        )  # fmt: skip
        if self.with_cls_token and not callable(walks) and walks != 'bidirectional':
            raise UserValueError(f'walks={walks!r} knows no place for a class token: set with_cls_token=False')
        mixer = {key: arch[key] for key in self.optional if key in arch}
        mixer |= {'average': average_directions, 'walks': walks}
        blocks = [VimBlock(self.embed_dims, mixer) for _ in range(self.depth)]
        norm_f = RMSNorm(self.embed_dims, eps=1e-5) if final_norm or out_type == 'cls_token' else None
        self._add_blocks(blocks, drop_path_rate, norm_f)
        self._freeze()

    def _angles(self, grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        return rope_tables(grid, self.embed_dims, like)

    def _walked(self, grid: tuple[int, int]) -> tuple[int, int] | None:
        return None if self.with_cls_token else grid  # one row, the class token in it

    _tiny: ClassVar[dict] = {'embed_dims': 192, 'depth': 24, 'patch_size': 16, 'patch_stride': 16}
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['s', 'small'], {**_tiny, 'embed_dims': 384}),
        **dict.fromkeys(['b', 'base'], {**_tiny, 'embed_dims': 768}),
        # Fine-tuned by the authors at half the stride, published as "Vim+".
        **dict.fromkeys(['t+', 'tiny_plus'], {**_tiny, 'patch_stride': 8}),
        **dict.fromkeys(['s+', 'small_plus'], {**_tiny, 'embed_dims': 384, 'patch_stride': 8}),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depth', 'patch_size', 'patch_stride'}
    optional: ClassVar[set[str]] = {'d_state', 'd_conv', 'expand', 'dt_rank'}
