"""The models that the page offers: what was trained here, and the zoo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmvim.catalogue import MODELS, Model
from mmvim.checkpoints.fetch import find_downloaded

DEMO = 'upernet_vim_t_miniature'
_ENDINGS = ('.pth', '.safetensors')


@dataclass(frozen=True)
class Offer:
    """A model in the list.

    Attributes:
        label: What stands in the list; unique.
        config: For :func:`mmvim.inference.choose`: a name of the zoo, or the path of a config.
        weights: The checkpoint.
        missing: Why it cannot be taken, as a sentence that says what to do; None if it can.
    """

    label: str
    config: str
    weights: str | None = None
    missing: str | None = None


def find_offers(work_dirs: Path) -> dict[str, Offer]:
    """Everything there is to choose from, by label: what can be taken first, and of that the newest checkpoints."""
    trained = sorted(_trained(work_dirs), key=_age)
    offers = [*trained, *map(_of_zoo, MODELS)]
    if not any(Path(offer.config).stem == DEMO for offer in trained):
        how = "the demo's miniature is not trained on this machine yet: make demo does it, in about five minutes"
        offers.insert(0, Offer(f'{DEMO} · not trained yet', DEMO, missing=how))
    return {offer.label: offer for offer in sorted(offers, key=lambda offer: offer.missing is not None)}


def _trained(work_dirs: Path) -> Iterator[Offer]:
    """What ``tools/train.py`` has left: the config of a run and its checkpoints in one folder."""
    folders = sorted(path for path in work_dirs.iterdir() if path.is_dir()) if work_dirs.is_dir() else []
    for folder in folders:
        configs = sorted(folder.glob('*.py'))
        checkpoints = sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS)
        if configs and not checkpoints:
            how = f'{folder} has a config and no checkpoint: train it with python tools/train.py {configs[0]}'
            yield Offer(f'{folder.name} · no checkpoint', str(configs[0]), missing=how)
        for path in checkpoints:
            label = f'{folder.name} / {path.name}'
            if configs:
                yield Offer(label, str(configs[0]), str(path))
            else:
                how = f'{folder} has checkpoints and no config: put the config that they were trained with beside them'
                yield Offer(f'{label} · no config', '', missing=how)


def _age(offer: Offer) -> float:
    return -Path(offer.weights).stat().st_mtime if offer.weights else 0.0


def _of_zoo(model: Model) -> Offer:
    if model.weights is None:
        how = f'no weights of {model.name} were published: train it with python tools/train.py {model.config}'
        return Offer(f'{model.name} · no weights published', model.name, missing=how)
    path = find_downloaded(model.weights.address)
    if path is None:
        file = model.weights
        how = f'{file.name} is not on this machine: download it from {file.page} and put it into weights/'
        return Offer(f'{model.name} · weights not here', model.name, missing=how)
    return Offer(f'{model.name} · {model.title}, {model.method}', model.name, str(path))
