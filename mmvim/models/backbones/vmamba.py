"""VMamba: https://arxiv.org/abs/2401.10166."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.models.layers import MLP, ConvNorm, DropPath, MakeWalks, PatchMerging
from mmvim.registry import register_backbone

from .staged import Stage, StagedBackbone
from .vmamba_mixer import SS2D


class VSSBlock(nn.Module):
    """SS2D and, except in VMamba's first generation, an MLP, each behind a norm and with a residual connection.

    Args:
        dims (int): C, channels of the map.
        drop_path (float): Probability of leaving a branch out.
        mlp_ratio (float): Hidden channels of the MLP / C; 0 for none.
        mlp_act (str): Activation in the MLP.
        mixer (dict): Further arguments of :class:`SS2D`.
    """

    def __init__(self, dims: int, drop_path: float, mlp_ratio: float, mlp_act: str, mixer: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.op = SS2D(dims, **mixer)
        self.drop_path = DropPath(drop_path)
        self.has_mlp = mlp_ratio > 0
        if self.has_mlp:
            self.norm2 = nn.LayerNorm(dims)
            self.mlp = MLP(dims, int(mlp_ratio * dims), mlp_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.op(self.norm(x)))
        return x + self.drop_path(self.mlp(self.norm2(x))) if self.has_mlp else x


class VMambaStage(Stage):
    """Blocks of one resolution, and what leads from them to the next stage.

    Args:
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        downsample (nn.Module | None): Takes the blocks' output to the next stage.
        with_cp (bool): Whether to compute each block again in the backward pass.
        block (dict): Further arguments of :class:`VSSBlock`.
    """

    def __init__(
        self, dims: int, rates: Sequence[float], downsample: nn.Module | None, with_cp: bool, block: dict
    ) -> None:
        super().__init__(with_cp)
        self.blocks = nn.ModuleList(VSSBlock(dims, rate, **block) for rate in rates)
        self.downsample = downsample


@register_backbone
class VMamba(StagedBackbone):
    """VMamba: selective scans over maps along rows, columns and their reverses, in four stages.

    A PyTorch implementation of `VMamba: Visual State Space Model <https://arxiv.org/abs/2401.10166>`_. Nothing in it
    depends on the size of the image: any size will do. Maps are kept channel-last between the convolutions.

    ``s1l8`` in the name of a variant means that SS2D scans 1 times as many channels as the stage has, and that the
    third stage has 8 blocks. ``tiny``, ``small`` and ``base`` are the three that the authors call VMamba-T, -S and -B.
    The variants ``v0`` are the first generation: gated blocks with 16 states per channel and no MLP.

    Args:
        arch (str | dict): A key of :attr:`arch_zoo`, or a dict with ``embed_dims`` (channels of the first stage, each
            further one has twice as many) and ``depths`` (blocks per stage) and, if wanted,

            - ``ssm_ratio`` (float): Scanned channels / channels of the stage. Defaults to 1.0.
            - ``d_state`` (int): States per scanned channel. Defaults to 1.
            - ``dt_rank`` (int): Rank of the step size. Defaults to channels of the stage / 16, rounded up.
            - ``gate`` (bool): Whether SS2D has a gate. Defaults to False.
            - ``conv_bias`` (bool): Whether its convolution has a bias. Defaults to False.
            - ``mlp_ratio`` (float): Hidden channels of the MLP / channels of the stage, 0 for none. Defaults to 4.0.
            - ``patch_embed`` (str): ``'overlapping'``, two convolutions of stride 2, or ``'plain'``, one of stride 4
              that leaves incomplete patches out. Defaults to ``'overlapping'``.
            - ``downsample`` (str): ``'conv'``, or ``'merge'`` as in Swin. Defaults to ``'conv'``.
        in_channels (int): Channels of the image.
        out_indices (int | Sequence[int]): Stages whose output is returned, each through a LayerNorm of its own
            (``outnorm{i}``); negative ones count from the end. Stages behind the last of them are not computed.
        ssm_act (str): Activation in SS2D: ``'silu'``, ``'gelu'`` or ``'relu'``.
        mlp_act (str): Activation in the MLP: the same.
        ssm_init (str): Initialisation of the scans: ``'mamba'``, ``'random'`` or ``'zero'``.
        drop_path_rate (float): Stochastic depth of the last block; rises linearly from 0.
        frozen_stages (int): Stages that are not trained, the patch embedding included: -1 none, 0 the patch embedding
            only, n the first n stages with their outputs' norms too.
        with_cp (bool): Whether to save memory in training by computing each block again in the backward pass.
        walks (str | Sequence[str] | Callable): Orders in which SS2D scans a map, see
            :func:`~mmvim.models.layers.resolve_walks`; each has scan parameters of its own.
        out_norm (bool): Whether outputs go through these norms; not if a head norms what it has pooled.
        init_cfg (dict | list[dict] | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A
            classifier has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = VMamba('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 96, 38, 53), (1, 192, 19, 27), (1, 384, 10, 14), (1, 768, 5, 7)]
    """

    embedding_name: ClassVar[str] = 'patch_embed'
    input_weight: ClassVar[str] = 'patch_embed.0.conv.weight'
    stages_name: ClassVar[str] = 'layers'
    downsample_at_end: ClassVar[bool] = True

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        ssm_act: str = 'silu',
        mlp_act: str = 'gelu',
        ssm_init: str = 'mamba',
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        walks: str | Sequence[str] | MakeWalks = 'cross',
        out_norm: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = self._resolve_arch(arch)
        depths = tuple(arch['depths'])
        if not depths or min(depths) < 1:
            raise UserValueError(f'depths {depths}: expected at least one stage, and one block in each')
        dims = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        super().__init__(dims, depths, in_channels, out_indices, frozen_stages, init_cfg)
        plain = self._one_of('patch_embed', arch.get('patch_embed', 'overlapping'), ('overlapping', 'plain')) == 'plain'
        merge = self._one_of('downsample', arch.get('downsample', 'conv'), ('conv', 'merge')) == 'merge'
        mixer = {ours: arch[key] for key, ours in self._mixer_keys.items() if key in arch}
        mixer |= {'act': ssm_act, 'init': ssm_init, 'walks': walks}
        block = {'mlp_ratio': arch.get('mlp_ratio', 4.0), 'mlp_act': mlp_act, 'mixer': mixer}
        if plain:
            self.smallest_side = 4
            self.patch_embed = nn.Sequential(ConvNorm(in_channels, dims[0], 4, 4, 0))
        else:
            first, second = ConvNorm(in_channels, dims[0] // 2, 3, 2, 1), ConvNorm(dims[0] // 2, dims[0], 3, 2, 1)
            self.patch_embed = nn.Sequential(first, nn.GELU(), second)
        self.layers = nn.ModuleList()
        for i, rates in enumerate(self._drop_path_rates(drop_path_rate)):
            down = None
            if i < len(depths) - 1:
                down = PatchMerging(dims[i], dims[i + 1]) if merge else ConvNorm(dims[i], dims[i + 1], 3, 2, 1)
            self.layers.append(VMambaStage(dims[i], rates, down, with_cp, block))
        self._add_outnorms(1e-5, out_norm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._freeze()

    _s1l8: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 8, 2), 'ssm_ratio': 1.0}
    _s2l5: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 5, 2), 'ssm_ratio': 2.0}
    _s2l15: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 15, 2), 'ssm_ratio': 2.0}
    _s1l20: ClassVar[dict] = {'embed_dims': 96, 'depths': (2, 2, 20, 2), 'ssm_ratio': 1.0}
    _v0: ClassVar[dict] = {
        'embed_dims': 96,
        'depths': (2, 2, 9, 2),
        'ssm_ratio': 2.0,
        'd_state': 16,
        'gate': True,
        'conv_bias': True,
        'mlp_ratio': 0.0,
        'patch_embed': 'plain',
        'downsample': 'merge',
    }
    arch_zoo: ClassVar[dict[str, dict]] = {
        **dict.fromkeys(['t', 'tiny', 'tiny_s1l8'], _s1l8),
        'tiny_s2l5': _s2l5,
        **dict.fromkeys(['s', 'small', 'small_s2l15'], _s2l15),
        **dict.fromkeys(['b', 'base', 'base_s2l15'], {**_s2l15, 'embed_dims': 128}),
        'small_s1l20': _s1l20,
        'base_s1l20': {**_s1l20, 'embed_dims': 128},
        'v0_tiny': _v0,
        'v0_small': {**_v0, 'depths': (2, 2, 27, 2)},
        'v0_base': {**_v0, 'depths': (2, 2, 27, 2), 'embed_dims': 128},
    }
    required: ClassVar[set[str]] = {'embed_dims', 'depths'}
    _mixer_keys: ClassVar[dict[str, str]] = {
        'ssm_ratio': 'ratio', 'd_state': 'd_state', 'dt_rank': 'dt_rank', 'gate': 'gate', 'conv_bias': 'conv_bias'
    }  # fmt: skip
    optional: ClassVar[set[str]] = {*_mixer_keys, 'mlp_ratio', 'patch_embed', 'downsample'}
