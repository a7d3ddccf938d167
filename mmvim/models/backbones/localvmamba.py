"""LocalVMamba, LocalMamba's model of four stages: https://arxiv.org/abs/2403.09338."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import (
    UNSEARCHED,
    ConvNorm,
    Directions,
    DropPath,
    PatchMerging,
    listed_directions,
    resolve_directions,
)
from mmvim.registry import register_backbone

from .localvmamba_mixer import LocalSS2D
from .staged import Stage, StagedBackbone


class LocalVSSBlock(nn.Module):
    """LocalSS2D behind a norm and with a residual connection.

    Args:
        dims (int): C, channels of the map.
        drop_path (float): Probability of leaving the branch out.
        directions (tuple[str, ...]): Its directions.
        mixer (dict): Further arguments of :class:`LocalSS2D`.
    """

    def __init__(self, dims: int, drop_path: float, directions: tuple[str, ...], mixer: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.op = LocalSS2D(dims, directions, **mixer)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        return x + self.drop_path(self.op(self.norm(x)))


class LocalVMambaStage(Stage):
    """Blocks of one resolution, and what leads from them to the next stage.

    Args:
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        directions (Sequence[tuple[str, ...]]): Directions of each block.
        downsample (nn.Module | None): Takes the blocks' output to the next stage.
        with_cp (bool): Whether to compute each block again in the backward pass.
        mixer (dict): Further arguments of :class:`LocalSS2D`.
    """

    def __init__(
        self,
        dims: int,
        rates: Sequence[float],
        directions: Directions,
        downsample: nn.Module | None,
        with_cp: bool,
        mixer: dict,
    ) -> None:
        super().__init__(with_cp)
        pairs = zip(rates, directions, strict=True)
        self.blocks = nn.ModuleList(LocalVSSBlock(dims, rate, names, mixer) for rate, names in pairs)
        self.downsample = downsample


@register_backbone
class LocalVMamba(StagedBackbone):
    """LocalVMamba: the first VMamba, whose blocks scan along rows, columns and windows, other ones in each block.

    A PyTorch implementation of `LocalMamba: Visual State Space Model with Windowed Selective Scan
    <https://arxiv.org/abs/2403.09338>`_. Nothing in it depends on the size of the image: any size will do. A window
    that does not fit is filled up with steps without a token.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` (channels of the first stage, each
            further one has twice as many) and ``depths`` (blocks per stage) and, if wanted, ``directions``,
            ``ssm_ratio`` (scanned channels / channels of the stage, by default 2.0), ``d_state`` (states per scanned
            channel, by default 16) and ``dt_rank`` (by default channels of the stage / 16, rounded up).
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``); negative ones count from the end. Stages behind the last of them are not computed.
        ssm_act (str): Activation in front of the scans: ``'silu'``, ``'gelu'`` or ``'relu'``.
        ssm_init (str): Initialisation of the scans: ``'mamba'``, ``'random'`` or ``'zero'``.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Stages that are not trained, the patch embedding included: -1 none, 0 the patch embedding
            only, n the first n stages with their outputs' norms too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        directions (Sequence[Sequence[str]] | Sequence[str] | None): Directions of each block, counted through all
            stages, or of every block, see :func:`mmvim.ops.walks.local`; by default those of the variant. Each has scan
            parameters of its own.
        legacy_reverse (bool): Whether results along columns come back to the tokens as in the authors' code, which is
            wrong unless the map is square, see :func:`~mmvim.models.layers.read_columns_as_rows`.
        out_norm (bool): Whether outputs go through these norms; not if a head norms what it has pooled.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = LocalVMamba('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 152, 212))]
        [(1, 96, 38, 53), (1, 192, 19, 27), (1, 384, 10, 14), (1, 768, 5, 7)]
    """

    embedding_name: ClassVar[str] = 'patch_embed'
    input_weight: ClassVar[str] = 'patch_embed.0.conv.weight'
    stages_name: ClassVar[str] = 'layers'
    downsample_at_end: ClassVar[bool] = True
    smallest_side: int = 4

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        ssm_act: str = 'silu',
        ssm_init: str = 'mamba',
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        directions: Sequence[Sequence[str]] | Sequence[str] | None = None,
        legacy_reverse: bool = False,
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        depths = tuple(arch['depths'])
        if not depths or min(depths) < 1:
            raise UserValueError(f'depths {depths}: expected at least one stage, and one block in each')
        dims = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        super().__init__(dims, depths, in_channels, out_indices, frozen_stages, init_cfg)
        given = arch.get('directions', UNSEARCHED) if directions is None else directions
        self.directions = resolve_directions(given, sum(depths))
        mixer = {'ratio': arch.get('ssm_ratio', 2.0), 'd_state': arch.get('d_state', 16)}
        mixer |= {'dt_rank': arch.get('dt_rank'), 'act': ssm_act, 'init': ssm_init, 'legacy_reverse': legacy_reverse}
        self.patch_embed = nn.Sequential(ConvNorm(in_channels, dims[0], 4, 4, 0))
        self.layers = nn.ModuleList()
        for i, rates in enumerate(self._drop_path_rates(drop_path_rate)):
            down = PatchMerging(dims[i], dims[i + 1]) if i < len(depths) - 1 else None
            names = self.directions[sum(depths[:i]) :][: depths[i]]
            self.layers.append(LocalVMambaStage(dims[i], rates, names, down, with_cp, mixer))
        self._add_outnorms(1e-5, out_norm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._freeze()

    _searched_t: ClassVar[str] = """
        h h_flip w7 w7_flip | h_flip v_flip w2 w2_flip | h_flip v_flip w2_flip w7 | h_flip v v_flip w2 |
        h h_flip v_flip w2_flip | h_flip v_flip w2 w2_flip | h w2_flip w7 w7_flip | h h_flip v v_flip |
        h v_flip w7 w7_flip | h_flip v w2 w7_flip | v v_flip w2 w7_flip | h h_flip v_flip w2_flip |
        v_flip w2_flip w7 w7_flip | h_flip v_flip w2_flip w7_flip | h_flip v w7 w7_flip"""
    _searched_s: ClassVar[str] = """
        h v v_flip w7_flip | h h_flip v w7 | h_flip v v_flip w7 | h_flip v w2_flip w7 | h_flip v w2_flip w7 |
        h_flip v_flip w2 w7_flip | h_flip v v_flip w7 | h v v_flip w7 | h v v_flip w7 | h v v_flip w7_flip |
        h h_flip v v_flip | h v v_flip w2 | v v_flip w2_flip w7 | h h_flip v w2 | h_flip v v_flip w7_flip |
        h h_flip v v_flip | h v v_flip w7_flip | h v v_flip w7_flip | h h_flip v_flip w7 | h_flip v_flip w2_flip w7 |
        h_flip v v_flip w7_flip | v v_flip w7 w7_flip | h v v_flip w7_flip | h_flip v v_flip w2 | h v v_flip w2_flip |
        h h_flip v w7 | h h_flip w7 w7_flip | h v_flip w2 w2_flip | h v_flip w2 w7 | h v v_flip w7_flip |
        h_flip v w2_flip w7 | h_flip v_flip w7 w7_flip | h v w7 w7_flip"""
    _tiny: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 9, 2), 'directions': listed_directions(_searched_t)}
    _small: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 27, 2), 'directions': listed_directions(_searched_s)}
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny'], _tiny),
        **dict.fromkeys(['s', 'small'], _small),
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depths'}
    optional: ClassVar[set[str]] = {'directions', 'ssm_ratio', 'd_state', 'dt_rank'}
