"""What is done with the models of :mod:`mmvim.catalogue`: listing, checking, evaluating, writing documents."""

from mmvim.renamed import renamed

_CATALOGUED = (
    'FILES', 'METRICS', 'MODELS', 'OFFICIAL_WEIGHTS', 'Flops', 'Model', 'OfficialFile', 'Published', 'find', 'select',
)  # fmt: skip
__getattr__ = renamed(__name__, {name: f'mmvim.catalogue.{name}' for name in _CATALOGUED})
