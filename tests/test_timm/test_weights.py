"""Published files in models of timm: found by name, read by our reader, the same scores as in OpenMMLab."""

import os
import pickle
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import pytest
import torch
from elsewhere import SMALL
from mmengine.config import Config
from torch import Tensor, nn

import mmvim
from mmvim.catalogue import FAMILIES, MODELS, Model
from mmvim.checkpoints import fetch, to_official
from mmvim.checkpoints.classifier import to_classifier
from mmvim.models import ImageClassifier
from mmvim.registry import BACKBONES
from mmvim.registry import MODELS as REGISTRY

ROOT = Path(__file__).parents[2]
CLASSES = 10
BACKBONE = {family.name: family.backbone for family in FAMILIES.values()}
CLASSIFIERS = [model for model in MODELS if model.task == 'imagenet' and BACKBONE[model.family] in SMALL]
each = pytest.mark.parametrize('backbone', list(SMALL))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64)


def published(backbone: str) -> tuple[Model, ImageClassifier]:
    """The first published classifier of a family as its config builds it, but small; random weights, norms included."""
    model = next(model for model in CLASSIFIERS if BACKBONE[model.family] == backbone)
    settings = Config.fromfile(ROOT / model.config).model
    arch = {**BACKBONES[backbone].arch_zoo[settings.backbone.arch], **SMALL[backbone]}
    settings.backbone.arch = arch
    settings.head.num_classes = CLASSES
    width = arch['embed_dims']
    settings.head.in_channels = width[-1] if isinstance(width, tuple) else width * (8 if 'depths' in arch else 1)
    classifier = REGISTRY.build(settings)
    for parameter in classifier.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model, classifier.eval()


def save(classifier: ImageClassifier, path: Path) -> Path:
    """A file as the authors publish it."""
    path.parent.mkdir(exist_ok=True)
    torch.save({'model': to_official(to_classifier(classifier.state_dict()))}, path)
    return path


@pytest.mark.parametrize('model', CLASSIFIERS, ids=lambda model: model.name)
def test_published_classifiers(timm: ModuleType, model: Model) -> None:
    """Each has a name; one with a class token beside one without has that of the other."""
    same = model.variant.removesuffix('_cls')
    address = next(other.weights.address for other in CLASSIFIERS if other.variant == same)
    names = [name for name in mmvim.timm.NAMES if timm.get_pretrained_cfg(name).url == address]
    options = {} if same == model.variant else {'class_token': True}
    assert names
    for name in names:
        with torch.device('meta'):
            found = timm.create_model(name, **options)
        assert sum(parameter.numel() for parameter in found.parameters()) == model.parameters


@each
def test_same_scores_as_in_openmmlab(
    timm: ModuleType, backbone: str, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in weights/ by the name of the published file."""
    model, classifier = published(backbone)
    path = save(classifier, tmp_path / 'weights' / model.weights.name)
    monkeypatch.chdir(tmp_path)
    name = f'small_{backbone.lower()}'
    ours = timm.create_model(
        name, pretrained=True, num_classes=CLASSES, pretrained_cfg_overlay={'file': str(path)}
    ).eval()
    assert torch.allclose(ours(images), classifier(images), atol=1e-5)
    here = {'url': model.weights.address, 'num_classes': CLASSES}
    again = timm.create_model(name, pretrained=True, num_classes=CLASSES, pretrained_cfg_overlay=here).eval()
    assert torch.equal(again(images), ours(images))


@each
def test_maps_of_a_published_file(timm: ModuleType, backbone: str, images: Tensor, tmp_path: Path) -> None:
    _, classifier = published(backbone)
    path = str(save(classifier, tmp_path / 'a.pth'))
    indices = (1, 2, 3)
    options = {'features_only': True, 'out_indices': indices}
    overlay = {'file': path}
    ours = timm.create_model(f'small_{backbone.lower()}', pretrained=True, pretrained_cfg_overlay=overlay, **options)
    arch = {**next(iter(BACKBONES[backbone].arch_zoo.values())), **SMALL[backbone]}
    init_cfg = {'type': 'Pretrained', 'checkpoint': path}
    theirs = BACKBONES[backbone](arch, out_indices=indices, init_cfg=init_cfg, **ours.variant.options)
    theirs.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(ours.eval()(images), theirs.eval()(images), strict=True))


@each
@pytest.mark.parametrize('channels', [1, 4])
def test_other_channels_as_in_timm(timm: ModuleType, backbone: str, channels: int, tmp_path: Path) -> None:
    from timm.models._manipulate import adapt_input_conv

    _, classifier = published(backbone)
    overlay = {'file': str(save(classifier, tmp_path / 'a.pth'))}
    key = BACKBONES[backbone].input_weight
    wanted = adapt_input_conv(channels, classifier.backbone.state_dict()[key].clone())
    for features_only in (False, True):
        ours = timm.create_model(
            f'small_{backbone.lower()}', pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels,
            features_only=features_only,
        )  # fmt: skip
        assert torch.allclose(ours.backbone.state_dict()[key], wanted)


@each
def test_other_classes_and_sizes(timm: ModuleType, backbone: str, tmp_path: Path) -> None:
    _, classifier = published(backbone)
    overlay = {'file': str(save(classifier, tmp_path / 'a.pth'))}
    for classes in (0, 3):
        ours = timm.create_model(
            f'small_{backbone.lower()}',
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=classes,
            img_size=96,
        )
        assert ours(torch.randn(1, 3, 96, 96)).shape[1] == (classes or ours.num_features)
        weights = classifier.backbone.state_dict()
        key = BACKBONES[backbone].input_weight
        assert torch.equal(ours.backbone.state_dict()[key], weights[key])


def test_no_network(timm: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(address: str, path: Path) -> None:
        raise URLError('no route to host')

    monkeypatch.setattr(fetch, 'download', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for options in ({}, {'features_only': True}):
        with pytest.raises(FileNotFoundError) as error:
            timm.create_model('vim_tiny', pretrained=True, **options)
        for part in (
            'vim_t_midclstok_76p1acc.pth',
            'no route to host',
            f'weights/ under {tmp_path}',
            'pretrained=False',
        ):
            assert part in str(error.value)
        with pytest.raises(FileNotFoundError, match='no checkpoint at mine.pth'):
            timm.create_model('vim_tiny', pretrained=True, pretrained_cfg_overlay={'file': 'mine.pth'}, **options)


def test_files_that_do_not_fit(timm: ModuleType, tmp_path: Path) -> None:
    overlay = {'file': str(save(published('VMamba')[1], tmp_path / 'a.pth'))}
    for options in ({}, {'features_only': True}):
        with pytest.raises(RuntimeError, match='a.pth holds VMamba, the model is Vim'):
            timm.create_model('small_vim', pretrained=True, pretrained_cfg_overlay=overlay, **options)


def test_no_code_of_a_file_runs(timm: ModuleType, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / 'ran'),)

    path = tmp_path / 'a.pth'
    path.write_bytes(pickle.dumps({'model': Attack()}))
    for options in ({}, {'features_only': True}):
        with pytest.raises(RuntimeError, match='was refused: it asks to run'):
            timm.create_model('small_vim', pretrained=True, pretrained_cfg_overlay={'file': str(path)}, **options)
    assert not (tmp_path / 'ran').exists()
