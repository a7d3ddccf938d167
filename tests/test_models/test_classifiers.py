"""The classifiers of the zoo: sizes, logits of the official code, strict loading, and the names there and back."""

from pathlib import Path

import pytest
import torch
from fill import filled_state_dict, image
from golden import Golden
from mmengine.config import Config
from official import CLASSIFIERS as VIM_FILES
from official import official_shapes
from official_efficientvmamba import CLASSIFIERS as EFFICIENTVMAMBA_FILES
from official_efficientvmamba import classifier_shapes as efficientvmamba_shapes
from official_localmamba import LOCALVIM, LOCALVMAMBA, localvim_shapes, localvmamba_shapes
from official_mambaout import VARIANTS as MAMBAOUT
from official_mambaout import as_in_timm
from official_mambaout import classifier_shapes as mambaout_shapes
from official_mambavision import VARIANTS as MAMBAVISION
from official_mambavision import classifier_shapes as mambavision_shapes
from official_plainmamba import VARIANTS as PLAINMAMBA
from official_plainmamba import classifier_shapes as plainmamba_shapes
from official_vmamba import CLASSIFIERS as VMAMBA_FILES
from official_vmamba import classifier_shapes as vmamba_shapes

from mmvim.catalogue import MODELS
from mmvim.checkpoints import load_model, to_official
from mmvim.checkpoints.classifier import to_classifier
from mmvim.models import ImageClassifier
from mmvim.registry import MODELS as REGISTRY

ROOT = Path(__file__).parents[2]
CLASSIFIERS = [model for model in MODELS if model.task == 'imagenet']
SHAPES = {
    **{file: official_shapes(f'{variant}_cls') for variant, (file, _) in VIM_FILES.items()},
    **{file: vmamba_shapes(arch) for arch, file in VMAMBA_FILES.items()},
    **{file: localvim_shapes(*how) for file, how in LOCALVIM.items()},
    **{file: localvmamba_shapes(arch) for file, arch in LOCALVMAMBA.items()},
    **{f'mambaout_{variant}.pth': mambaout_shapes(variant) for variant in MAMBAOUT},
    **{file: mambavision_shapes(variant) for variant, (file, *_) in MAMBAVISION.items()},
    **{file: efficientvmamba_shapes(arch) for arch, (file, _) in EFFICIENTVMAMBA_FILES.items()},
    **{file: plainmamba_shapes(arch) for arch, (file, *_) in PLAINMAMBA.items()},
}


def build(name: str) -> ImageClassifier:
    config = next(model.config for model in CLASSIFIERS if model.name == name)
    return REGISTRY.build(Config.fromfile(ROOT / config).model).eval()


@pytest.mark.parametrize('model', CLASSIFIERS, ids=lambda model: model.name)
def test_takes_the_published_file(model) -> None:
    """Every tensor of the published file has its place, and no other is left."""
    with torch.device('meta'):
        classifier = build(model.name)
    # LocalVim's files have tables of rotations, which are computed.
    shapes = {key: shape for key, shape in SHAPES[model.weights.name].items() if not key.startswith('rope.')}
    assert sum(p.numel() for p in classifier.parameters()) == model.parameters
    no_parameters = ('running_mean', 'running_var', 'num_batches_tracked')
    counted = [torch.Size(shape).numel() for key, shape in shapes.items() if not key.endswith(no_parameters)]
    assert model.parameters == sum(counted)
    official = to_official(to_classifier(classifier.state_dict()))
    # Names of PlainMamba's files begin as those of our classifiers do.
    assert {key: list(tensor.shape) for key, tensor in official.items()} == {
        key.removeprefix('backbone.'): shape for key, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ('name', 'golden'),
    [
        ('vim_t_imagenet', 'vim_tiny_cls_224'),
        ('vim_t_plus_imagenet', 'vim_tiny_plus_cls_224'),
        ('vmamba_t_imagenet', 'vmamba_tiny_s1l8_cls_224'),
        ('localvim_t_imagenet', 'localvim_tiny_cls_224'),
        ('localvim_t_cls_imagenet', 'localvim_tiny_middle_cls_224'),
        ('localvmamba_t_imagenet', 'localvmamba_tiny_cls_224'),
        ('mambaout_femto_imagenet', 'mambaout_femto_224x224'),
        ('mambavision_t_imagenet', 'mambavision_tiny_224x224'),
        ('efficientvmamba_t_imagenet', 'efficientvmamba_tiny_cls_224x224'),
    ],
)
def test_logits_of_the_official_code(name: str, golden: str) -> None:
    file = next(model.weights.name for model in CLASSIFIERS if model.name == name)
    classifier = build(name)
    report = load_model(classifier, {'model': filled_state_dict(SHAPES[file])}, file)
    assert report.matched == report.total == len(classifier.state_dict())
    assert all(reason == 'computed' for reason in report.left_out.values()) and not report.new
    golden = Golden(golden)
    about = golden.info.get('input', golden.info)
    with torch.no_grad():
        logits = classifier(image(*(about[key] for key in ('batch', 'height', 'width', 'seed'))))
    if 'full' in golden.info['arrays']['logits']:
        golden.assert_close('logits', logits, 5e-5)
    else:
        golden.assert_near('logits', logits, 2e-5, 1e-4)


def test_names_of_timm() -> None:
    state = filled_state_dict(mambaout_shapes('femto'))
    ours, theirs = build('mambaout_femto_imagenet'), build('mambaout_femto_imagenet')
    load_model(ours, dict(state), 'a.pth')
    load_model(theirs, as_in_timm(state), 'b.pth')
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize('name', ['vim_t_imagenet', 'vmamba_t_imagenet', 'mambaout_femto_imagenet'])
def test_own_checkpoints(name: str) -> None:
    classifier = build(name)
    state = {key: torch.rand_like(tensor) for key, tensor in classifier.state_dict().items()}
    load_model(classifier, {'state_dict': dict(state)}, 'iter_1.pth')
    assert all(torch.equal(tensor, state[key]) for key, tensor in classifier.state_dict().items())


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('vim_t_imagenet', lambda state: state.pop('head.bias'), '1 missing: head.fc.bias'),
        ('vim_t_imagenet', lambda state: state.pop('norm_f.weight'), 'missing.*norm_f.weight'),
        ('vim_t_imagenet', lambda state: state.update(extra=torch.ones(1)), 'unknown to the model: extra'),
        ('vim_t_plus_imagenet', lambda state: None, 'Vim-Tiny .*the model is Vim-Tiny[+]'),
        ('vim_s_imagenet', lambda state: None, 'holds Vim-Tiny .192 wide.*, the model is Vim-Small'),
        ('vmamba_t_imagenet', lambda state: None, 'holds Vim, the model is VMamba'),
        (
            'vim_t_imagenet',
            lambda state: state.update({'head.weight': torch.ones(7, 192), 'head.bias': torch.ones(7)}),
            'knows 7 classes and the model 1000',
        ),
    ],
)
def test_refuses_other_files(name: str, change, message: str) -> None:
    state = {key: torch.ones(shape) for key, shape in official_shapes('tiny_cls').items()}
    change(state)
    with pytest.raises(RuntimeError, match=message):
        load_model(build(name), {'model': state}, 'vim_t_midclstok_76p1acc.pth')


def test_refuses_a_family_without_classifiers() -> None:
    state = {'blocks.0.attn.qkv.weight': torch.ones(576, 192), 'head.weight': torch.ones(1000, 192)}
    with pytest.raises(RuntimeError, match='holds DeiT.*, the model is Vim|is no checkpoint of this whole model'):
        load_model(build('vim_t_imagenet'), {'model': state}, 'deit_tiny_patch16_224-a1311bcf.pth')


def test_modes() -> None:
    from mmengine.structures import BaseDataElement

    torch.manual_seed(0)
    arch = {'embed_dims': 16, 'depth': 2, 'patch_size': 16, 'patch_stride': 16}
    classifier = ImageClassifier(
        {'type': 'mmvim.Vim', 'arch': arch, 'out_type': 'cls_token', 'pretrain_img_size': 32},
        {'type': 'mmvim.LinearHead', 'in_channels': 16, 'num_classes': 3},
    )
    images, samples = torch.rand(2, 3, 32, 32), [BaseDataElement(), BaseDataElement()]
    for label, sample in enumerate(samples):
        sample.gt_label = torch.tensor(label)
    scores = classifier(images)
    assert scores.shape == (2, 3)
    assert all(map(torch.equal, [s.pred_scores for s in classifier(images, samples, 'predict')], scores))
    expected = -torch.log_softmax(scores, 1)[[0, 1], [0, 1]].mean()
    torch.testing.assert_close(classifier(images, samples, 'loss')['loss'], expected)
