"""VMamba: https://arxiv.org/abs/2401.10166."""

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmvim.models.layers import MLP, SS2D, ConvNorm, DropPath, PatchMerging, drop_path_rates
from mmvim.registry import register_backbone

from .base import StagedBackbone


class VSSBlock(BaseModule):
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


class VMambaStage(BaseModule):
    """Blocks of one resolution, and what leads from them to the next stage.

    Args:
        dims (int): C, channels of the map.
        rates (Sequence[float]): Drop path rate of each block.
        downsample (nn.Module | None): Takes the blocks' output to the next stage; not used by :meth:`forward`.
        with_cp (bool): Whether to compute each block again in the backward pass.
        block (dict): Further arguments of :class:`VSSBlock`.
    """

    def __init__(
        self, dims: int, rates: Sequence[float], downsample: nn.Module | None, with_cp: bool, block: dict
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(VSSBlock(dims, rate, **block) for rate in rates)
        self.downsample = downsample
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        # The sum over all blocks is kept in the dtype of the parameters: fp32 under autocast.
        x = x.to(self.blocks[0].norm.weight.dtype)
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x


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
        init_cfg (dict | None): ``dict(type='Pretrained', checkpoint=...)`` reads official and own files. A classifier
            has no ``outnorm``: they start as new ones.

    Raises:
        ValueError: If arguments do not fit each other.

    Examples:
        >>> backbone = VMamba('tiny')
        >>> [tuple(x.shape) for x in backbone(torch.rand(1, 3, 150, 210))]
        [(1, 96, 38, 53), (1, 192, 19, 27), (1, 384, 10, 14), (1, 768, 5, 7)]
    """

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
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = self._resolve_arch(arch)
        self.depths = tuple(arch['depths'])
        if not self.depths or min(self.depths) < 1:
            raise ValueError(f'depths {self.depths}: expected at least one stage, and one block in each')
        num_stages = len(self.depths)
        self.dims = tuple(arch['embed_dims'] * 2**i for i in range(num_stages))
        self.out_indices = self._resolve_out_indices(out_indices, num_stages, 'stages')
        self.frozen_stages = self._check_frozen_stages(frozen_stages, num_stages)

        self.in_channels = in_channels
        self.patch_embed = self._patch_embed(arch.get('patch_embed', 'overlapping'))
        downsample = self._one_of('downsample', arch.get('downsample', 'conv'), ('conv', 'merge'))
        mixer = {ours: arch[key] for key, ours in self._mixer_keys.items() if key in arch}
        mixer |= {'act': ssm_act, 'init': ssm_init}
        block = {'mlp_ratio': arch.get('mlp_ratio', 4.0), 'mlp_act': mlp_act, 'mixer': mixer}
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        self.layers = nn.ModuleList()
        for i, (dims, depth) in enumerate(zip(self.dims, self.depths, strict=True)):
            down = None
            if i < num_stages - 1:
                down = PatchMerging(dims, 2 * dims) if downsample == 'merge' else ConvNorm(dims, 2 * dims, 3, 2, 1)
            self.layers.append(VMambaStage(dims, list(islice(rates, depth)), down, with_cp, block))
        for i in self.out_indices:
            self.add_module(f'outnorm{i}', nn.LayerNorm(self.dims[i]))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._freeze_stages()

    def _patch_embed(self, kind: str) -> nn.Sequential:
        dims = self.dims[0]
        if self._one_of('patch_embed', kind, ('overlapping', 'plain')) == 'plain':
            self.patch_size = 4
            return nn.Sequential(ConvNorm(self.in_channels, dims, 4, 4, 0))
        self.patch_size = 1
        return nn.Sequential(
            ConvNorm(self.in_channels, dims // 2, 3, 2, 1), nn.GELU(), ConvNorm(dims // 2, dims, 3, 2, 1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            image: (B, in_channels, H, W).

        Returns:
            One map (B, C_i, H_i, W_i) per ``out_indices``, at strides 4, 8, 16, 32.

        Raises:
            ValueError: If the image has other channels or is smaller than a patch.
        """
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f'expected images (B, {self.in_channels}, H, W), got {tuple(image.shape)}')
        if min(image.shape[2:]) < self.patch_size:
            raise ValueError(
                f'an image of {image.shape[2]} x {image.shape[3]} pixels is smaller than a patch of '
                f'{self.patch_size} x {self.patch_size}: enlarge or pad it'
            )
        x = self.patch_embed(image.permute(0, 2, 3, 1).contiguous())
        outs = []
        for i, stage in enumerate(self.layers[: self.out_indices[-1] + 1]):
            x = stage(x if i == 0 else self.layers[i - 1].downsample(x))
            if i in self.out_indices:
                outs.append(getattr(self, f'outnorm{i}')(x).permute(0, 3, 1, 2).contiguous())
        return tuple(outs)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        Args:
            param_name: Name in the whole model.
            prefix: What stands in front of this backbone's own names, such as ``'backbone.'``.

        Returns:
            The layer, 0 for the patch embedding, i + 1 for block i, counted through all stages, a downsampling with
            the block before it, the last one for everything else; and the number of layers.
        """
        num_layers = sum(self.depths) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name.startswith('layers.'):
            _, stage, part, block, *_ = name.split('.')
            stage = int(stage)
            last = sum(self.depths[: stage + 1])
            return (last if part == 'downsample' else last - self.depths[stage] + int(block) + 1), num_layers
        return (0 if name.startswith('patch_embed.') else num_layers - 1), num_layers

    def _embedding_and_stages(self) -> tuple[nn.Module, nn.ModuleList]:
        return self.patch_embed, self.layers
