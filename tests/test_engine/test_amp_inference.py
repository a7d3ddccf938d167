"""Mixed precision for inference: what is folded, what runs in which dtype, and what comes out."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import roi_align
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import MODEL_WRAPPERS, MODELS, DefaultScope
from mmengine.runner.priority import Priority
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmvim.engine.amp_inference import AmpInferenceHook, amp_dtype, describe_amp, predict_with_amp, use_amp
from mmvim.engine.folding import fold_batch_norms
from mmvim.engine.upernet import add_convolved_enlarged, split_last_convolution
from mmvim.paths import ROOT


def lively(model: nn.Module) -> nn.Module:
    """With statistics and parameters of norms that matter, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


def upernet(backbone: str) -> nn.Module:
    """mmseg's, small, on a ResNet or on VMamba."""
    norm = {'type': 'BN', 'requires_grad': True}
    small = {
        'resnet': ({'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'norm_cfg': norm}, [8, 16, 32, 64]),
        'vmamba': ({'type': 'mmvim.VMamba', 'arch': {'embed_dims': 8, 'depths': (1, 1, 1, 1)}}, [8, 16, 32, 64]),
    }
    cfg, channels = small[backbone]
    head = {
        'type': 'UPerHead', 'in_channels': channels, 'in_index': [0, 1, 2, 3], 'channels': 16, 'num_classes': 5,
        'norm_cfg': norm, 'align_corners': False,
    }  # fmt: skip
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = {'type': 'EncoderDecoder', 'backbone': cfg, 'decode_head': head, 'test_cfg': {'mode': 'whole'},
                 'data_preprocessor': {'type': 'SegDataPreProcessor'}}  # fmt: skip
        return lively(MODELS.build(ConfigDict(model)))


class Block(nn.Module):
    """A convolution and a norm, used in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor, activate: bool = True) -> Tensor:
        if self.way == 'norm first':
            return self.conv(self.norm(x))
        if self.way == 'twice':
            return self.norm(self.conv(self.norm(self.conv(x))))
        y = self.conv(x)
        if self.way == 'by the values' and y.mean() > 0:
            y = y + 1
        y = self.norm(y) + (y if self.way == 'beside' else 0)
        return y.relu() if activate else y


@pytest.mark.parametrize(
    ('way', 'folded'), [('plain', 1), ('norm first', 0), ('twice', 0), ('beside', 0), ('by the values', 0)]
)
@torch.no_grad()
def test_only_what_is_normed_alone_is_folded(way: str, folded: int) -> None:
    torch.manual_seed(0)
    block, x = lively(Block(way)), torch.randn(2, 4, 5, 6)
    expected = block(x)
    assert fold_batch_norms(block) == folded
    torch.testing.assert_close(block(x), expected)
    assert isinstance(block.norm, nn.Identity) == bool(folded)


@torch.no_grad()
def test_deconvolutions_are_folded_unless_grouped() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 5, 6)
    for groups, folded in ((1, 1), (2, 0)):
        model = lively(nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2, groups=groups), nn.BatchNorm2d(6)))
        expected = model(x)
        assert fold_batch_norms(model) == folded
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('sides', [(5, 7, 10, 14), (3, 3, 11, 8), (1, 1, 4, 5), (4, 6, 4, 6)])
@torch.no_grad()
def test_convolution_of_an_enlarged_map(sides: tuple[int, ...], align_corners: bool) -> None:
    h, w, height, width = sides
    torch.manual_seed(0)
    x, weight, total = torch.randn(2, 6, h, w), torch.randn(8, 6, 3, 5), torch.randn(2, 8, height, width)
    enlarged = F.interpolate(x, (height, width), mode='bilinear', align_corners=align_corners)
    expected = total.double() + F.conv2d(enlarged.double(), weight.double(), padding=(1, 2))
    found = add_convolved_enlarged(total.clone(), x, weight, align_corners)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize('backbone', ['resnet', 'vmamba'])
@torch.no_grad()
def test_a_whole_segmentor_gives_the_same_in_fp32(backbone: str) -> None:
    """Folded and split, without another dtype."""
    model = upernet(backbone)
    x = torch.randn(2, 3, 70, 90)
    expected = model(x)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert fold_batch_norms(model) == norms > 0
    stock = model.decode_head._forward_feature
    split_last_convolution(model)
    assert model.decode_head._forward_feature != stock
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_norm_that_is_left_keeps_the_last_convolution_whole() -> None:
    model = upernet('vmamba')
    stock = model.decode_head._forward_feature
    split_last_convolution(model)
    assert model.decode_head._forward_feature == stock


@torch.no_grad()
def test_the_network_in_bf16_and_the_results_in_fp32() -> None:
    model = upernet('vmamba')
    expected = model(torch.ones(1, 3, 64, 96))
    use_amp(model, 'bf16')
    seen = {}
    for name in ('backbone.layers.0.blocks.0.mlp.fc1', 'decode_head.fpn_convs.0.conv', 'decode_head.conv_seg'):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out.dtype}))
        assert module.weight.dtype == torch.bfloat16
    assert model.backbone.layers[0].blocks[0].norm.weight.dtype == torch.float32
    found = model(torch.ones(1, 3, 64, 96))
    assert set(seen.values()) == {torch.bfloat16} and len(seen) == 3
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert not torch.equal(found, expected)

    sample = BaseDataElement(metainfo={'ori_shape': (60, 90), 'img_shape': (64, 96), 'pad_shape': (64, 96)})
    (result,) = model(torch.ones(1, 3, 64, 96), [sample], mode='predict')
    assert result.seg_logits.data.dtype == torch.float32
    assert result.pred_sem_seg.data.dtype == torch.int64
    assert model.encode_decode(torch.ones(1, 3, 64, 96), [sample.metainfo]).dtype == torch.float32
    assert not torch.is_autocast_enabled('cpu')


@torch.no_grad()
def test_regions_are_pooled_and_detections_worked_out_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Config.fromfile(ROOT / 'configs/demo/mask_rcnn_vmamba_miniature.py')
    cfg.model.backbone.arch = {'embed_dims': 8, 'depths': (1, 1, 1)}
    cfg.model.neck.in_channels = [8, 16, 32]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model).eval()
    plain = copy.deepcopy(model)
    use_amp(model, 'bf16')
    dtypes: dict[str, set] = {'regions': set(), 'scores': set()}
    layer = model.roi_head.bbox_roi_extractor.roi_layers[0]
    layer.register_forward_pre_hook(lambda _, args: dtypes['regions'].update(x.dtype for x in args))
    predict = model.rpn_head.predict_by_feat

    def watched(scores: list[Tensor], *rest: object, **more: object) -> object:
        dtypes['scores'].update(x.dtype for x in scores)
        return predict(scores, *rest, **more)

    monkeypatch.setattr(model.rpn_head, 'predict_by_feat', watched)
    from mmdet.structures import DetDataSample

    def detect(model: nn.Module) -> BaseDataElement:
        meta = {
            'img_shape': (128, 128),
            'ori_shape': (100, 100),
            'scale_factor': (1.28, 1.28),
            'batch_input_shape': (128, 128),
        }
        return model(
            torch.linspace(-2, 2, 3 * 128 * 128).view(1, 3, 128, 128), [DetDataSample(metainfo=meta)], mode='predict'
        )[0]

    found = detect(model).pred_instances
    assert dtypes == {'regions': {torch.float32}, 'scores': {torch.float32}}
    assert {found.bboxes.dtype, found.scores.dtype, found.masks.dtype} == {torch.float32, torch.bool}
    assert len(found) > 0 and len(detect(plain).pred_instances) > 0


def test_test_time_augmentation_runs_in_bf16() -> None:
    inner = upernet('vmamba')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build({'type': 'SegTTAModel', 'module': inner})
    use_amp(model, 'bf16')
    seen = set()
    inner.decode_head.conv_seg.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    meta = {'ori_shape': (64, 96), 'img_shape': (64, 96), 'pad_shape': (64, 96), 'img_path': 'x.png'}
    from mmseg.structures import SegDataSample

    data = {'inputs': [[image], [image.flip(2)]],
            'data_samples': [[SegDataSample(metainfo={**meta, 'flip': flip, 'flip_direction': 'horizontal'})]
                             for flip in (False, True)]}  # fmt: skip
    with torch.no_grad():
        (result,) = model.test_step(data)
    assert seen == {torch.bfloat16}
    assert result.seg_logits.data.dtype == torch.float32


@pytest.mark.parametrize('wrapped', [False, True])
def test_the_model_of_the_runner_stays_as_it_is(wrapped: bool) -> None:
    model = upernet('vmamba')
    before = copy.deepcopy(model.state_dict())

    class Wrapper(nn.Module):
        """Stands for DistributedDataParallel."""

        def __init__(self) -> None:
            super().__init__()
            self.module = model

    MODEL_WRAPPERS.register_module(name='Wrapper', module=Wrapper, force=True)
    runner = SimpleNamespace(model=Wrapper() if wrapped else model)
    kept, hook = runner.model, AmpInferenceHook('bf16')
    try:
        hook.before_test_epoch(runner)
    finally:
        MODEL_WRAPPERS.module_dict.pop('Wrapper')
    assert type(runner.model) is type(model) and runner.model is not model
    assert runner.model.decode_head.conv_seg.weight.dtype == torch.bfloat16
    with torch.no_grad():
        assert runner.model(torch.rand(1, 3, 64, 64)).dtype == torch.float32
    hook.after_test_epoch(runner)
    assert runner.model is kept
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


def test_averaged_weights_are_in_the_model_by_then() -> None:
    assert Priority[AmpInferenceHook.priority].value > Priority[EMAHook.priority].value


def test_a_classifier_gives_scores_in_fp32() -> None:
    backbone = {'type': 'mmvim.VMamba', 'arch': {'embed_dims': 8, 'depths': (1, 1)}, 'out_indices': (1,)}
    head = {'type': 'mmvim.LinearHead', 'in_channels': 16, 'num_classes': 7}
    from mmvim.registry import MODELS as OURS

    model = OURS.build({'type': 'mmvim.ImageClassifier', 'backbone': backbone, 'head': head}).eval()
    use_amp(model, torch.bfloat16)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 32, 32)).dtype == torch.float32


class Refuses(nn.Module):
    """Has an operator that knows no bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return roi_align(self.proj(x)[None, None], x.new_tensor([[0, 0, 0, 2, 2]], dtype=torch.bfloat16), 2)


def test_what_does_not_compute_in_bf16_says_so() -> None:
    model = Refuses()
    use_amp(model, 'bf16')
    with pytest.raises(RuntimeError, match=r'--amp: a part of this model does not compute in bf16 .*leave --amp out'):
        model(torch.rand(4, 4))


def test_other_errors_stay_what_they_are() -> None:
    model = Refuses()
    use_amp(model, 'bf16')
    with pytest.raises(RuntimeError, match='^mat1 and mat2 shapes cannot be multiplied'):
        model(torch.rand(4, 5))


@pytest.mark.parametrize(
    ('device', 'optim_wrapper', 'dtype'),
    [('cpu', None, 'bf16'), ('cpu', {'dtype': 'float16'}, 'bf16'), ('cuda', None, 'fp16'), ('cuda', {}, 'fp16'),
     ('cuda:1', {'dtype': 'bfloat16'}, 'bf16')],
)  # fmt: skip
def test_the_dtype_fits_the_machine(device: str, optim_wrapper: dict | None, dtype: str) -> None:
    cfg = Config({'optim_wrapper': optim_wrapper})
    assert amp_dtype(cfg, device) == dtype
    predict_with_amp(cfg, device)
    assert cfg.custom_hooks == [{'type': 'mmvim.AmpInferenceHook', 'dtype': dtype}]


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"optim_wrapper.dtype='float8': expected float16 or bfloat16"):
        amp_dtype(Config({'optim_wrapper': {'dtype': 'float8'}}), 'cuda')


@pytest.mark.parametrize(('units', 'told'), [(False, True), (True, False), (None, False)])
def test_a_cpu_without_bf16_units_is_told_of(monkeypatch: pytest.MonkeyPatch, units: bool | None, told: bool) -> None:
    monkeypatch.setattr('mmvim.engine.amp_inference.multiplies_bf16', lambda: units)
    assert ('no faster for it: this CPU' in describe_amp('bf16', 'cpu')) == told
    assert 'no faster' not in describe_amp('fp16', 'cuda')
