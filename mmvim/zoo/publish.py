"""From the checkpoint of a run to files that are handed on: the weights alone, with their hash in the name."""

import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmvim.catalogue import MODELS
from mmvim.checkpoints import load_model, read, state_dict_of
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.families import family_of
from mmvim.errors import UserFileExistsError, UserModuleNotFoundError, UserOSError, UserValueError
from mmvim.files import write_whole
from mmvim.models.build import build_untrained
from mmvim.preflight.config import load_config
from mmvim.preflight.finding import demand
from mmvim.preflight.packages import check_packages

from .metafile import to_yaml

HASH = 8  # letters of the sha256 in a name, as torch.hub and OpenMMLab have them


def publish(source: str | os.PathLike, out: str | os.PathLike, config: str | os.PathLike | None = None) -> list[Path]:
    """Write what a checkpoint hands on: weights and names of classes, and nothing else.

    Args:
        source: As for :func:`mmvim.checkpoints.read`; no code from it runs.
        out: A folder, which is made if need be; or in it a name that ends in ``.pth``, for the files. By default they
            have the name of the config, or that of the checkpoint.
        config: Of the model. With it the weights are seen to fit, and the entry tells more.

    Returns:
        ``NAME-HASH.pth``, with the hash of the file; ``NAME-HASH.safetensors`` with its own, where the package is
        installed; and ``NAME-HASH.yml`` beside the first, an entry for a metafile.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: As ``read``, ``load_config`` and ``load_model``.
        FileExistsError: If one of the files is there; nothing is written then.
        OSError: If the folder cannot be made or written to.
    """
    out = Path(out)
    folder, name = (out.parent, out.stem) if out.suffix == '.pth' else (out, Path(config or source).stem)
    cfg = None
    if config is not None:
        cfg = load_config(config)
        demand(check_packages(cfg), UserModuleNotFoundError)
    checkpoint = read(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drafts = TemporaryDirectory(dir=folder, prefix='.publish')
    except OSError as error:
        raise UserOSError(f'{folder} cannot be written to ({error.strerror}): name another folder') from error
    with drafts as place:
        endings = ['.pth', *(['.safetensors'] if find_spec('safetensors') else [])]
        files = {}
        for ending in endings:
            draft = Path(place, f'model{ending}')
            convert(source, draft)
            files[draft] = folder / f'{name}-{hashlib.sha256(draft.read_bytes()).hexdigest()[:HASH]}{ending}'
        weights = files[Path(place, 'model.pth')]
        entry = weights.with_suffix('.yml')
        there = [path for path in (*files.values(), entry) if path.exists()]
        if there:
            raise UserFileExistsError(f'{there[0]} exists: move it away, or name another folder')
        text = to_yaml(
            {'Models': [_entry(checkpoint, read(Path(place, 'model.pth')), name, weights.name, cfg, str(source))]}
        )
        for draft, path in files.items():
            os.replace(draft, path)
        write_whole(entry, text)
    return [*files.values(), entry]


def _entry(
    checkpoint: Mapping[str, Any], published: Mapping[str, Any], name: str, weights: str, cfg: Any, source: str
) -> dict:
    """An entry of a metafile: what is known, and no results, which the file does not have."""
    family = family_of(state_dict_of(published))
    entry: dict[str, Any] = {'Name': name}
    if family is not None:
        entry['In Collection'] = family.name
    metadata: dict[str, Any] = {}
    if cfg is not None:
        model = build_untrained(cfg.model, cfg.get('default_scope'))
        try:
            load_model(model, published, source)
        except (RuntimeError, ValueError) as error:
            raise UserValueError(f'the checkpoint does not fit {cfg.filename}: {error}') from error
        path = Path(cfg.filename)
        record = next((record for record in MODELS if Path(record.config).parts[-2:] == path.parts[-2:]), None)
        entry['Config'] = record.config if record else str(path)
        metadata['Training Data'] = record.dataset if record else _data_set(cfg)
        metadata['Parameters (M)'] = round(sum(weight.numel() for weight in model.parameters()) / 1e6, 2)
    meta = checkpoint.get('meta')
    for key, title in (('epoch', 'Epochs'), ('iter', 'Iterations')):
        if isinstance(meta, Mapping) and isinstance(meta.get(key), int) and meta[key]:
            metadata[title] = meta[key]
    entry['Metadata'] = {key: value for key, value in metadata.items() if value is not None}
    entry['Weights'] = weights
    return entry


def _data_set(cfg: Any) -> str | None:
    """The class of the data set that a config trains on."""
    dataset = cfg.get('train_dataloader', {}).get('dataset')
    while dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    kind = dataset and dataset.get('type')
    return kind if isinstance(kind, str) or kind is None else kind.__name__
