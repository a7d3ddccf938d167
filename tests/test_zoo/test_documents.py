"""What is generated from the records is what lies in the repository."""

from pathlib import Path

import yaml

from mmvim.catalogue import FAMILIES, MODELS
from mmvim.catalogue.fields import FIELDS
from mmvim.zoo.documents import documents, out_of_date, write_documents

ROOT = Path(__file__).parents[2]


def test_everything_is_up_to_date() -> None:
    """To renew them: python tools/zoo.py write."""
    assert [str(path.relative_to(ROOT)) for path in out_of_date(ROOT)] == []


def test_what_is_generated() -> None:
    names = {str(path.relative_to(ROOT)) for path in documents(ROOT)}
    folders = {str(Path(model.config).parent) for model in MODELS} | {f'configs/{field}' for field in FIELDS}
    assert names == {f'{folder}/metafile.yml' for folder in folders} | {
        'model-index.yml',
        'docs/model_zoo.md',
    }
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == sorted(f'{folder}/metafile.yml' for folder in folders)


def test_files_that_differ_are_written(tmp_path: Path) -> None:
    (tmp_path / 'docs').mkdir()
    for model in MODELS:
        (tmp_path / model.config).parent.mkdir(parents=True, exist_ok=True)
    assert set(write_documents(tmp_path)) == set(documents(tmp_path))
    page = (tmp_path / 'docs/model_zoo.md').read_text()
    assert '\n## At a glance\n\n| backbone |' in page
    assert all(f'\n| {model.title} |' in page for model in MODELS)
    assert not write_documents(tmp_path)
    (tmp_path / 'model-index.yml').write_text('')
    assert out_of_date(tmp_path) == [tmp_path / 'model-index.yml']


def test_metafiles_tell_the_records() -> None:
    entries, collections = {}, set()
    for path in documents(ROOT):
        if path.name == 'metafile.yml':
            content = yaml.safe_load(path.read_text())
            entries |= {entry.get('Alias', entry['Name']): entry for entry in content['Models']}
            collections |= {collection['Name'] for collection in content.get('Collections', [])}
    assert collections >= {entry['In Collection'] for entry in entries.values()}
    for model in MODELS:
        if Path(model.config).stem != model.name:
            continue
        entry = entries[model.name]
        assert (entry['Name'], entry['Config']) == (model.long_name, model.config)
        assert ('Weights' in entry) == (model.weights is not None) == ('Results' in entry)
        metrics = {k: v for result in entry.get('Results', []) for k, v in result['Metrics'].items()}
        assert all(model.value(metric) == value for metric, value in metrics.items())


def test_every_config_of_a_field_is_in_its_metafile_without_results() -> None:
    data_sets = set()
    for field in FIELDS:
        entries = yaml.safe_load((ROOT / 'configs' / field / 'metafile.yml').read_text())['Models']
        configs = [str(path.relative_to(ROOT)) for path in sorted((ROOT / 'configs' / field).glob('*.py'))]
        assert configs
        assert configs == [entry['Config'] for entry in entries]
        for entry in entries:
            assert entry.keys() == {'Name', 'In Collection', 'Config', 'Metadata'}
            assert entry['In Collection'] in FAMILIES
        data_sets |= {entry['Metadata']['Training Data'] for entry in entries}
        assert not {entry['Name'] for entry in entries} & {model.name for model in MODELS}
    assert data_sets == {title for titles in FIELDS.values() for title in titles.values()}


def test_model_zoo_has_every_model() -> None:
    text = (ROOT / 'docs' / 'model_zoo.md').read_text()
    for model in MODELS:
        row = next(line for line in text.splitlines() if f'({"../" + model.config})' in line and model.title in line)
        assert f'{model.parameters / 1e6:.1f} M' in row
        if model.weights:
            assert f'[{model.weights.name}](https://{model.weights.page})' in text
        for number in model.published:
            assert number.source in text
