"""The records of the zoo: complete, found by name, and listed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mmvim.catalogue import FILES, METRICS, MODELS, OFFICIAL_WEIGHTS, find, select
from mmvim.catalogue.fields import FIELDS
from mmvim.catalogue.records import DATASETS
from mmvim.commands.zoo import main

ROOT = Path(__file__).parents[2]


def test_names_and_files_are_unique() -> None:
    for field in ('name', 'long_name'):
        assert max(Counter(getattr(model, field) for model in MODELS).values()) == 1
    files = [model.weights.name for model in MODELS if model.weights]
    assert len(files) == len(set(files))
    assert set(files) | {model.start for model in MODELS if model.start} == set(FILES) == set(OFFICIAL_WEIGHTS)


def test_every_config_has_a_record() -> None:
    """One of the zoo, or that of a field (tests/test_zoo/test_documents.py); demos and pretraining have none."""
    configs = {str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/*.py')}
    others = {name for name in configs if Path(name).parts[1] in ('_base_', 'demo', 'pretrain', *FIELDS)}
    assert configs - others == {model.config for model in MODELS}
    assert configs - others == {model.config for model in MODELS if Path(model.config).stem == model.name}


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)
def test_fields(model) -> None:
    assert model.task in DATASETS
    assert model.parameters > 4e6
    assert len({number.metric for number in model.published}) == len(model.published)
    for number in model.published:
        assert number.metric in METRICS
        assert 30 < number.value < 100
        assert number.source
    if model.weights:
        assert model.published, 'weights of which nothing is claimed need no record'
        assert model.weights.address.startswith('https://')
        # PlainMamba's files of several tasks are called alike: our names begin with the family and go on with theirs.
        name = model.weights.name.removeprefix('plainmamba_').partition('_' if model.family == 'PlainMamba' else '/')[0]
        assert name.partition('.')[0] in model.weights.address.rpartition('/')[2]
        assert model.weights.address.endswith(Path(model.weights.name).suffix)


def test_all_that_was_published_is_there() -> None:
    count = Counter((model.family, model.task) for model in MODELS if model.weights)
    assert count[('Vim', 'imagenet')] == 5
    assert count[('VMamba', 'imagenet')] == 9
    assert (count[('VMamba', 'det')], count[('VMamba', 'seg')]) == (13, 7)
    assert count[('EfficientVMamba', 'imagenet')] == 3
    assert not count[('EfficientVMamba', 'seg')] + count[('EfficientVMamba', 'det')]
    assert [count[('PlainMamba', task)] for task in ('imagenet', 'det', 'seg')] == [3, 6, 3]
    assert not count[('Vim', 'seg')] + count[('Vim', 'det')]


def test_selection() -> None:
    tiny = {model.name for model in select(MODELS, patterns=['vmamba_t*'])}
    assert {'vmamba_t_imagenet', 'upernet_vmamba_t_s2l5_ade20k', 'mask_rcnn_vmamba_t_3x_coco'} <= tiny
    assert not any('vmamba_s' in name for name in tiny)
    assert {model.task for model in select(MODELS, 'seg')} == {'seg'}
    assert select(MODELS, 'det', ['upernet_vim_t_ade20k', 'mask_rcnn_vim_t_coco']) == [
        find(MODELS, 'mask_rcnn_vim_t_coco')
    ]


@pytest.mark.parametrize(
    ('choose', 'message'),
    [
        (lambda: find(MODELS, 'upernet_vmamba_tiny_ade20k'), 'nearest: upernet_vmamba_t_ade20k'),
        (lambda: select(MODELS, patterns=['vmanba_t*']), 'nearest: vmamba_t'),
        (lambda: select(MODELS, 'detection'), 'expected one of seg, det, imagenet'),
        (lambda: select(MODELS, 'det', ['upernet_*']), 'no model of the task det'),
    ],
)
def test_what_is_not_there(choose, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose()


def test_list(capsys: pytest.CaptureFixture) -> None:
    assert main(['list', '--models', 'upernet_vmamba_t_ade20k']) == 0
    text = capsys.readouterr().out
    for part in (
        'upernet_vmamba_t_ade20k',
        '61.9 M',
        '948.78',
        'mIoU 47.9',
        'README of MzeroMiko/VMamba',
        'tiny_s_iter',
    ):
        assert part in text
    assert main(['list', '--json']) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry['name'] for entry in listed] == [model.name for model in MODELS]
    assert listed[0]['published'][0] == {'metric': 'top-1', 'value': 76.1, 'source': 'README of hustvl/Vim'}


def test_records_are_found_where_they_were_for_a_release() -> None:
    import mmvim.zoo

    with pytest.warns(FutureWarning, match=r'mmvim\.zoo\.MODELS is now mmvim\.catalogue\.MODELS'):
        assert mmvim.zoo.MODELS is MODELS
    with pytest.raises(AttributeError, match="module 'mmvim.zoo' has no attribute 'nothing'"):
        mmvim.zoo.nothing  # noqa: B018
