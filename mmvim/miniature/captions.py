"""Says in words what a scene shows: which things, how many and where, on which grounds, before what."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .categories import SCENE_CLASSES
from .scenes import Scene

# What people call the same thing: one, and several of it.
_THINGS = {
    'person': (('person', 'people'), ('pedestrian', 'pedestrians'), ('walker', 'walkers')),
    'car': (('car', 'cars'), ('automobile', 'automobiles'), ('vehicle', 'vehicles')),
    'dog': (('dog', 'dogs'), ('hound', 'hounds'), ('puppy', 'puppies')),
    'boat': (('boat', 'boats'), ('sailing boat', 'sailing boats'), ('yacht', 'yachts')),
    'airplane': (('airplane', 'airplanes'), ('plane', 'planes'), ('jet', 'jets')),
}
_CROWDS = ('crowd of people', 'group of people', 'row of people')
_GROUNDS = {'road': ('a road', 'a street'), 'grass': ('grass', 'a meadow'), 'water': ('water', 'a lake')}
_BEHIND = {
    'mountain': ('mountains', 'hills'),
    'building': ('buildings', 'houses'),
    'tree': ('trees', 'trees with round crowns'),
}
_SIDES = (
    ('on the left', 'at the left', 'on the left side'),
    ('in the middle', 'in the centre', 'near the middle'),
    ('on the right', 'at the right', 'on the right side'),
)
_NUMBERS = ('no', 'a', 'two', 'three', 'four', 'five')
# One caption each, five as COCO has them: in the order in which somebody tells it.
_SENTENCES = (
    '{things} on {grounds}, with {behind} behind, under {sky}',
    '{grounds} below {sky}, {behind} behind, and {things}',
    'a picture of {things}; around them {grounds}, {behind} and {sky}',
    'in front of {behind}: {things}, on {grounds} under {sky}',
    '{things}, before {behind} and {sky}, with {grounds} around',
)
# Of the picture's pixels: what is smaller is not spoken of.
_SEEN = 0.01
_WIDE_SKY = 0.25


def describe(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Five captions of one scene, in other words each, which say the same.

    Things are told from left to right with the third of the picture that the middle of what is seen of them lies in;
    grounds, and what is behind, from the largest to the smallest.

    Args:
        scene: As drawn.
        rng: Chooses the words.
    """
    return [_SENTENCES[number].format(**_facts(scene, rng)) for number in rng.permutation(len(_SENTENCES))]


def _facts(scene: Scene, rng: np.random.Generator) -> dict[str, str]:
    shares = {name: float((scene.labels == ids.ade20k).mean()) for name, ids in SCENE_CLASSES.items()}
    sky = 'a wide sky' if shares['sky'] > _WIDE_SKY else 'a narrow sky' if shares['sky'] > _SEEN else 'no sky'
    return {
        'things': _things(scene, rng),
        'grounds': _largest_first(shares, _GROUNDS, rng) or 'bare ground',
        'behind': _largest_first(shares, _BEHIND, rng) or 'nothing',
        'sky': sky,
    }


def _things(scene: Scene, rng: np.random.Generator) -> str:
    width = scene.labels.shape[1]
    seen = Counter(
        (min(int(3 * np.flatnonzero(thing.mask.any(0)).mean() / width), 2), thing.crowd, thing.name)
        for thing in scene.instances
        if thing.mask.mean() > _SEEN / 2
    )
    told = []
    for (side, crowd, name), count in sorted(seen.items()):
        one, several = (_one_of(_CROWDS, rng), '') if crowd else _one_of(_THINGS[name], rng)
        noun = one if count == 1 else several
        number = 'an' if count == 1 and noun[0] in 'aeiou' else _NUMBERS[count]
        told.append(f'{number} {noun} {_one_of(_SIDES[side], rng)}')
    return _listed(told) or 'nothing'


def _largest_first(shares: dict[str, float], words: dict[str, tuple[str, ...]], rng: np.random.Generator) -> str:
    names = sorted((name for name in words if shares[name] > _SEEN), key=lambda name: -shares[name])
    return _listed([_one_of(words[name], rng) for name in names])


def _one_of(words: tuple, rng: np.random.Generator):
    return words[rng.integers(len(words))]


def _listed(words: list[str]) -> str:
    """``['a', 'b', 'c']`` as 'a, b and c'."""
    return ' and '.join(filter(None, [', '.join(words[:-1]), *words[-1:]]))
