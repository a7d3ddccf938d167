"""The kind of timm's models that classifies."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead
from torch import Tensor, nn

from mmvim.checkpoints import read
from mmvim.checkpoints.classifier import from_classifier
from mmvim.checkpoints.match import fit_model, load_fitted
from mmvim.errors import UserValueError
from mmvim.models.backbones.staged import StagedBackbone

from .features import BACKBONE, Wrapper, taken
from .variant import Variant, count, cut, outputs

_FORMATS = ('NCHW', 'NHWC', 'NLC')


class Classifier(Wrapper):
    """A backbone with the norm and the head of its published classifier.

    Args:
        variant: What to build.
        num_classes: Classes; 0 for no head.
        in_chans: Channels of the image.
        global_pool: ``'token'``, ``'avg'`` or ``''`` where there is a class token, else ``'avg'``, ``'max'``,
            ``'avgmax'``, ``'catavgmax'`` or ``''``. By default that of the published classifier.
        img_size: Side, or (height, width), that a position embedding is made for.
        drop_rate: Dropout in front of the head.
        class_token: Whether there is a class token; by default as in the published classifier.
        options: Other arguments of the backbone, and settings of its arch.

    Raises:
        ValueError, TypeError: If they do not fit the backbone.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str | None = None,
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        class_token: bool | None = None,
        **options: Any,
    ) -> None:
        with_token = variant.class_token if class_token is None else class_token
        arch = variant.arch(options)
        given = {'final_norm': True, 'out_norm': False} if 'final_norm' in variant.parameters else {}
        given = {key: value for key, value in given.items() if key in variant.parameters}
        if with_token:
            given |= {'with_cls_token': True, 'out_type': 'raw'}
        given |= {'out_indices': range(count(arch))}
        super().__init__(variant.build(arch, in_chans, img_size, {**given, **options}), in_chans)
        self.variant, self.last = variant, count(arch) - 1
        self.has_cls_token, self.num_prefix_tokens = with_token, int(with_token)
        self.feature_info = outputs(self.backbone, BACKBONE)
        self.num_features = self.head_hidden_size = self.feature_info[-1]['num_chs']
        self.num_classes = num_classes
        self._take_norm()
        self.global_pool = self._checked_pool(global_pool)
        pool = '' if with_token else self.global_pool
        self.head = ClassifierHead(self.num_features, num_classes, pool, drop_rate)
        self.head.num_classes = num_classes  # by this a file for other classes is known

    def _take_norm(self) -> None:
        """Norms out of the backbone, and the last one into this model: outputs in between are wanted without."""
        self._norm_name = 'norm_f' if getattr(self.backbone, 'norm_f', None) is not None else f'outnorm{self.last}'
        norm = getattr(self.backbone, self._norm_name)
        self.norm = norm if self.variant.norm is None else self.variant.norm(self.num_features)
        for name, _ in list(self.backbone.named_children()):
            if name == self._norm_name or name.startswith('outnorm'):
                setattr(self.backbone, name, nn.Identity())

    def _checked_pool(self, pool: str | None) -> str:
        known = ('token', 'avg', '') if self.has_cls_token else ('avg', 'max', 'avgmax', 'catavgmax', '')
        pool = known[0] if pool is None else pool
        if pool not in known:
            raise UserValueError(f'global_pool={pool!r}: expected one of {", ".join(map(repr, known))}')
        return pool

    def get_classifier(self) -> nn.Module:
        """The linear layer that gives scores."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head.

        Args:
            num_classes: Classes; 0 for no head.
            global_pool: As in the constructor; stays as it is by default.
        """
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.num_classes = num_classes
        self.head.reset(num_classes, '' if self.has_cls_token else self.global_pool)
        self.head.num_classes = num_classes

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the normed last map (B, C, H', W').

        With a class token these are tokens (B, 1 + H' * W', C), the class token first, where timm looks for it.
        """
        return self._normed(self._outputs(x, (self.last,))[0])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From :meth:`forward_features` to scores (B, num_classes), or, with ``pre_logits``, what they are made of."""
        if self.has_cls_token and self.global_pool:
            x = x[:, 0] if self.global_pool == 'token' else x[:, 1:].mean(1)
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to scores before the softmax (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> Any:
        """Outputs of stages or blocks.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Whose output is wanted; a number for that many last ones, None for all.
            return_prefix_tokens: Whether each output is a pair with the class token (B, 1, C), if there is one.
            norm: Whether outputs go through the last norm: all of a plain model, the last one of a model of stages.
            stop_early: Whether nothing behind the last output wanted is computed.
            output_fmt: ``'NCHW'``, ``'NHWC'`` or ``'NLC'``.
            intermediates_only: Whether to leave out what :meth:`forward_features` gives.

        Returns:
            A list of outputs; unless ``intermediates_only``, a pair with the features of the last block computed.

        Raises:
            ValueError: If there is no such format or output.
        """
        if output_fmt not in _FORMATS:
            raise UserValueError(f'output_fmt={output_fmt!r}: expected one of {", ".join(map(repr, _FORMATS))}')
        wanted = sorted(set(taken(len(self.feature_info), indices)[0]))
        computed = wanted if stop_early or intermediates_only else sorted({*wanted, self.last})
        outs = dict(zip(computed, self._outputs(x, computed), strict=True))
        shown = [self._normed(outs[i]) if norm and self._has_norm(i) else outs[i] for i in wanted]
        prefixes = [out[:, :1] for out in shown] if self.has_cls_token else []
        if self.has_cls_token:
            grid = self.backbone.patch_embed.grid(*x.shape[2:])
            shown = [out[:, 1:].transpose(1, 2).unflatten(2, grid) for out in shown]
        shown = [_formatted(out, output_fmt) for out in shown]
        if return_prefix_tokens and self.has_cls_token:
            shown = list(zip(shown, prefixes, strict=True))
        if intermediates_only:
            return shown
        end = computed[-1]
        return self._normed(outs[end]) if self._has_norm(end) else outs[end], shown

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what outputs do not need.

        Args:
            indices: As for :meth:`forward_intermediates`.
            prune_norm: Whether the last norm goes; it does anyhow if its stage does.
            prune_head: Whether the head goes.

        Returns:
            The indices as numbers from the first stage or block.
        """
        wanted, last = taken(len(self.feature_info), indices)
        cut(self.backbone, last)
        if prune_norm or self.feature_info[last]['num_chs'] != self.feature_info[self.last]['num_chs']:
            self.norm = nn.Identity()
        self.last = last
        if prune_head:
            self.reset_classifier(0, '')
        return wanted

    def load_pretrained(self, source: str) -> None:
        """Fill the model from a classifier's file; a head for other classes keeps its initial weights."""
        checkpoint = read(source)
        report = fit_model(self, checkpoint, source, new_classes=True, inflate_input=self.in_chans != 3)
        load_fitted(self, checkpoint, report)

    def from_published(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This model's names for the weights of a published classifier, which have those of our backbones."""
        state = from_classifier(state)
        norms = {f'{BACKBONE}{self._norm_name}.': 'norm.', 'head.norm.': 'norm.'}
        for old, new in norms.items():
            state = {new + key.removeprefix(old) if key.startswith(old) else key: state[key] for key in state}
        return {key: state[key] for key in state if self.num_classes or not key.startswith('head.')}

    def _outputs(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """What the backbone gives at rising ``indices``, the class token in front of the others."""
        if self.backbone.out_indices != tuple(indices):
            self.backbone.out_indices = tuple(indices)
        outs = self.backbone(x)
        return [_token_first(out) for out in outs] if self.has_cls_token else list(outs)

    def _has_norm(self, output: int) -> bool:
        return output == self.last or not isinstance(self.backbone, StagedBackbone)

    def _normed(self, x: Tensor) -> Tensor:
        if x.dim() == 3 or isinstance(self.norm, (nn.BatchNorm2d, nn.Identity)):
            return self.norm(x)
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _token_first(x: Tensor) -> Tensor:
    """Tokens (B, 1 + L, C) with the one in the middle put in front."""
    middle = (x.shape[1] - 1) // 2
    return torch.cat([x[:, middle : middle + 1], x[:, :middle], x[:, middle + 1 :]], 1)


def _formatted(x: Tensor, output_fmt: str) -> Tensor:
    """A map (B, C, H, W) in another form."""
    if output_fmt == 'NHWC':
        return x.permute(0, 2, 3, 1)
    return x.flatten(2).transpose(1, 2) if output_fmt == 'NLC' else x
