"""CLIP around every family: what the loss asks for, how warm it may get, what becomes of the weights."""

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from test_models.test_simmim import ADAPTER, FAMILIES, VIM, VMAMBA, detector, segmentor
from torch import Tensor, nn

from mmvim.checkpoints import load_backbone
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.match import load_model
from mmvim.models import CLIP
from mmvim.models.pretraining import tokenizer as tokens
from mmvim.models.pretraining.contrastive import contrastive_loss
from mmvim.models.pretraining.text import TextTransformer

SMALL = {'text': {'dims': 16, 'depth': 2, 'num_heads': 2, 'context_length': 12}, 'embed_dims': 8}
CAPTIONS = ['a boat on water under a sky', 'two dogs', 'a car on a road before houses']


def samples(captions: list) -> list[BaseDataElement]:
    """One for each image: a caption, or a list of them."""
    return [
        BaseDataElement(metainfo={'img_path': f'{number}.jpg', 'captions': [of] if isinstance(of, str) else of})
        for number, of in enumerate(captions)
    ]


@pytest.mark.parametrize('name', FAMILIES)
def test_the_loss_is_that_of_the_paper_and_reaches_every_weight(name: str) -> None:
    torch.manual_seed(0)
    model, images = CLIP(FAMILIES[name], **SMALL), torch.randn(3, 3, 64, 40)
    found = model(images, samples(CAPTIONS), mode='loss')
    found['loss'].backward()
    unused = {key.split('.')[1] for key, parameter in model.named_parameters() if parameter.grad is None}
    assert unused == ({'ad_norm1', 'ad_norm2', 'ad_norm3', 'spm', 'up'} if FAMILIES[name] is ADAPTER else set())
    with torch.no_grad():
        pictures, texts = model.encode_images(images), model.encode_texts(CAPTIONS)
    for vectors in (pictures, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    logits = found['scale'] * pictures @ texts.T
    expected = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2
    torch.testing.assert_close(found['loss'], expected)


def test_the_first_temperature_and_its_bound() -> None:
    model = CLIP(VMAMBA, **SMALL)
    torch.testing.assert_close(model.scale().item(), 1 / 0.07)
    optimizer = torch.optim.SGD([model.log_scale], lr=1.0)
    for _ in range(3):  # a loss that wants the scale to rise without end
        optimizer.zero_grad()
        (-10 * model.scale()).backward()
        optimizer.step()
        assert model.scale().item() <= 100 * (1 + 1e-6)
    torch.testing.assert_close(model.scale().item(), 100.0)
    optimizer.zero_grad()
    model.scale().backward()  # at the bound there is a way back
    assert model.log_scale.grad > 0


def test_a_text_is_read_up_to_its_end_and_no_further() -> None:
    torch.manual_seed(0)
    text = TextTransformer(tokens.vocabulary_size(), dims=16, depth=2, num_heads=2).eval()
    alone, among = (tokens.tokenize(texts, 77) for texts in (CAPTIONS[1:2], CAPTIONS))
    assert alone.shape == (1, 4) and among.shape[1] == 9
    torch.testing.assert_close(text(alone)[0], text(among)[1])
    behind = among.clone()
    behind[1, 4:] = 7
    torch.testing.assert_close(text(behind)[1], text(among)[1])
    before = among.clone()
    before[1, 1] = 7
    assert not torch.allclose(text(before)[1], text(among)[1])


def test_tokens_there_and_back() -> None:
    found = tokens.tokenize(['A boat, on WATER!', 'dogs'], 77)
    start, end = tokens.vocabulary_size() - 2, tokens.vocabulary_size() - 1
    assert end == 49407 and found.dtype is torch.int64
    assert (found[:, 0] == start).all() and found[1].tolist()[2:4] == [end, 0]
    assert tokens.tokenizer().decode(found[0, 1:-1].tolist()).strip() == 'a boat , on water !'
    cut = tokens.tokenize(['dogs ' * 40], 12)
    assert cut.shape == (1, 12) and cut[0, -1] == end
    for words, long in ((9, False), (10, False), (11, True)):
        assert tokens.is_cut('dog ' * words, 12) is long
    assert tokens.is_cut('新' * 11, 12) and not tokens.is_cut('', 12)


def test_a_missing_tokenizer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'instant_clip_tokenizer', None)
    tokens.tokenizer.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'pip install -c constraints\.txt -e .*\[pretrain\]'):
        CLIP(VMAMBA)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'backbone': {**VMAMBA, 'out_indices': (2, 3)}}, 'one output, a map, got one with 2 maps'),
        ({'backbone': {**VIM, 'out_type': 'cls_token'}}, 'one output, a map, got one with 0 maps'),
        ({'backbone': {'type': nn.Identity}}, 'expected a backbone of mmvim'),
        ({'text': {'dims': 16, 'num_heads': 3}}, 'channels that the heads divide'),
        ({'text': {'context_length': 2}}, 'expected at least 3 tokens'),
        ({'prompts': {'classes': []}}, 'got 0 classes'),
        ({'prompts': {'classes': ['dog'], 'templates': ['a photo']}}, r"one \{\} each .*'a photo'"),
        ({'prompts': {'classes': 'nowhere.txt'}}, 'there is no file nowhere.txt; write the name of one class'),
    ],
)
def test_what_does_not_fit(options: dict, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=sentence) as caught:
        CLIP(**{'backbone': VMAMBA, **SMALL, **options})
    assert '\n' not in str(caught.value)


def test_batches_that_teach_nothing() -> None:
    model, image = CLIP(VMAMBA, **SMALL), torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match='a batch of one image and its text has nothing to be told from: set'):
        model(image, samples(CAPTIONS[:1]), mode='loss')
    with pytest.raises(ValueError, match=r'0\.jpg came with 2 captions, the loss takes one: add .*DrawCaption'):
        model(image, samples([CAPTIONS[:2]]), mode='loss')


def test_bfloat16() -> None:
    torch.manual_seed(0)
    model, images = CLIP(VMAMBA, **SMALL), torch.randn(3, 3, 64, 64)
    exact = model(images, samples(CAPTIONS), mode='loss')['loss']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(images, samples(CAPTIONS), mode='loss')['loss']
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_logits_stay_exact_in_mixed_precision() -> None:
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(8, 16), dim=1) for _ in range(2))
    exact = contrastive_loss(images, texts, torch.tensor(100.0))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(images, texts, torch.tensor(100.0)), exact)


@pytest.mark.parametrize('backbone', [VIM, VMAMBA], ids=['plain', 'staged'])
def test_it_learns_colours_by_their_names(backbone: dict) -> None:
    torch.manual_seed(0)
    model = CLIP({**backbone, 'final_norm': True} if backbone is VIM else backbone, **SMALL)
    names = ['a red one', 'a green one', 'a blue one', 'nothing but black']
    colours = torch.cat([3 * torch.eye(3), -3 * torch.ones(1, 3)])[:, :, None, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        images = (colours + 0.1 * torch.randn(4, 3, 1, 1)).expand(-1, -1, 64, 64)
        loss = model(images, samples(names), mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * math.log(4)


def test_predictions_for_retrieval() -> None:
    torch.manual_seed(0)
    model, images = CLIP(VMAMBA, **SMALL).eval(), torch.randn(3, 3, 32, 48)
    found = model(images, samples([CAPTIONS[:2], [], CAPTIONS[2:]]), mode='predict')
    texts = model.encode_texts(CAPTIONS)
    assert torch.equal(torch.stack([sample.image_embedding for sample in found]), model(images))
    torch.testing.assert_close(torch.cat([found[0].text_embeddings, found[2].text_embeddings]), texts)
    assert 'text_embeddings' not in found[1]


def test_classes_by_sentences(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / 'classes.txt').write_text('dog\nsailing boat\n\n')
    prompts = {'classes': str(tmp_path / 'classes.txt'), 'templates': ['a photo of a {}.', 'the {}']}
    model, images = CLIP(VMAMBA, **SMALL, prompts=prompts).eval(), torch.randn(2, 3, 32, 32)
    sentences = ['a photo of a dog.', 'the dog', 'a photo of a sailing boat.', 'the sailing boat']

    def expected() -> Tensor:
        with torch.no_grad():
            classes = F.normalize(model.encode_texts(sentences).unflatten(0, (2, 2)).mean(1), dim=1)
            return model.scale() * model(images) @ classes.T

    def scores() -> Tensor:
        return torch.stack([sample.pred_scores for sample in model(images, samples(['', '']), mode='predict')])

    torch.testing.assert_close(scores(), expected())
    before = scores()
    with torch.no_grad():
        model.text_projection.weight.normal_()
    model.train()
    model.eval()  # as validation between epochs does: the sentences are read with the new weights
    torch.testing.assert_close(scores(), expected())
    assert not torch.allclose(scores(), before)


# ------------------------------------------------------------------------------------------ its weights go on


def save(model: CLIP, file: Path) -> None:
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, file)


@pytest.mark.parametrize('build', [segmentor, detector])
@pytest.mark.parametrize('backbone', [{**VIM, 'final_norm': True}, VMAMBA], ids=['plain', 'staged'])
def test_the_weights_go_on_into_models(build: Callable, backbone: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretrained, file = CLIP(backbone, **SMALL), tmp_path / 'epoch_32.pth'
    save(pretrained, file)
    theirs = {**backbone, 'init_cfg': {'type': 'Pretrained', 'checkpoint': str(file)}}
    theirs.pop('final_norm', None)
    if build is segmentor:
        theirs['out_indices'] = (0, 1, 2, 3)
    scope = {segmentor: 'mmseg', detector: 'mmdet'}[build]
    importlib.import_module(f'{scope}.models')
    with DefaultScope.overwrite_default_scope(scope):
        model = ROOT_MODELS.build(build(theirs))
        model.init_weights()
    ours, found = pretrained.backbone.state_dict(), model.backbone.state_dict()
    new = {f'outnorm{i}.{part}' for i in range(3) for part in ('weight', 'bias')}
    left = {'norm_f.weight'} if backbone['type'] == 'mmvim.Vim' else set()
    assert set(ours) - set(found) == left
    assert set(found) - set(ours) == (new if build is segmentor and not left else set())
    assert all(torch.equal(found[key], ours[key]) for key in set(found) & set(ours))
    report = load_backbone(model.backbone, file, expected_missing=model.backbone.expected_missing)
    others = {key for key in pretrained.state_dict() if not key.startswith('backbone.')}
    assert {'log_scale', 'image_projection.weight', 'text_projection.weight', 'text.vocabulary.weight'} <= others
    assert set(report.left_out) == others | left
    assert '\n' not in str(report) and 'log_scale' in str(report)


def test_the_backbone_is_exported_alone(tmp_path: Path) -> None:
    pretrained = CLIP(VMAMBA, **SMALL)
    save(pretrained, tmp_path / 'run.pth')
    convert(str(tmp_path / 'run.pth'), str(tmp_path / 'alone.pth'), 'ours', False, None, 'backbone')
    alone, ours = torch.load(tmp_path / 'alone.pth', weights_only=True)['state_dict'], pretrained.backbone.state_dict()
    assert alone.keys() == ours.keys()
    assert all(torch.equal(alone[key], ours[key]) for key in ours)


def test_another_vocabulary_is_named(tmp_path: Path) -> None:
    model = CLIP(VMAMBA, **SMALL)
    state = model.state_dict()
    state['text.vocabulary.weight'] = torch.zeros(30000, 16)
    with pytest.raises(RuntimeError, match=r'text\.vocabulary\.weight') as caught:
        load_model(model, {'state_dict': state}, 'run.pth')
    said = str(caught.value)
    assert '\n' not in said and '30000' in said and '49408' in said, said
