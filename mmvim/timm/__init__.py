"""The backbones as models of timm: ``import mmvim.timm``, and ``timm.create_model('vmamba_tiny')`` knows them.

Every variant of every family of the catalogue is registered, under the name of the family and that of the variant;
names that timm has already (MambaOut's) stay timm's. See ``docs/elsewhere.md``.
"""

from functools import partial
from typing import Any

from torch import nn

from mmvim import models  # noqa: F401  fills BACKBONES
from mmvim.catalogue import FAMILIES, FILES, Family, OfficialFile
from mmvim.checkpoints.fetch import WEIGHTS
from mmvim.errors import UserImportError, UserModuleNotFoundError
from mmvim.names import hint
from mmvim.registry import BACKBONES

try:
    from timm import is_model
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model, resolve_pretrained_cfg
    from timm.models._builder import pretrained_cfg_for_features
except ModuleNotFoundError as error:
    raise UserModuleNotFoundError(f"mmvim.timm needs timm ({error}): pip install 'mmvim[timm]'") from error
except RuntimeError as error:  # of torchvision, whose operators are compiled against one build of torch
    raise UserImportError(
        f'timm cannot be imported ({error}): torchvision is not that of this torch; install the two from one index, '
        'both for the CPU or both for the same CUDA'
    ) from error

from .classifier import Classifier  # noqa: E402
from .features import Features  # noqa: E402
from .variant import Variant, grid  # noqa: E402

#: Names that were registered here.
NAMES: list[str] = []
#: Read by timm's ``register_model``: name -> what is known of its weights.
default_cfgs: dict[str, Any] = {}
# What the published classifiers of a family have that its backbone has not by itself.
_PUBLISHED: dict[str, dict[str, Any]] = {
    'Vim': {'class_token': True},
    'PlainMamba': {'options': {'raster_parameters': True, 'double_dt_bias': True}},
    'MambaVision': {'norm': nn.BatchNorm2d},
}


def register(family: Family) -> None:
    """Let timm know every variant of a family whose name it has not.

    Args:
        family: A record of the catalogue. Its backbone is found by :func:`mmvim.registry.register_backbone`.
    """
    backbone = BACKBONES.get(family.backbone)
    zoo = getattr(backbone, 'arch_zoo', {})
    for arch, settings in zoo.items():
        same = [other for other, theirs in zoo.items() if theirs == settings]
        name = f'{family.name.lower()}_{arch}'
        if is_model(name) or (len(arch) <= 2 and len(max(same, key=len)) > 2):  # an abbreviation has a longer one
            continue
        variant = Variant(name, backbone, settings, **_PUBLISHED.get(family.name, {}))
        default_cfgs.update(generate_default_cfgs({f'{name}.in1k': _config(family, variant, _file_of(family, same))}))
        entry = partial(_create, variant)
        entry.__name__, entry.__module__, entry.__doc__ = name, __name__, f'{family.name} of arch {arch!r}, for timm.'
        globals()[name] = register_model(entry)
        NAMES.append(name)


def _config(family: Family, variant: Variant, file: OfficialFile | None) -> dict[str, Any]:
    """timm's record of a variant's published classifier, or of one that is not published."""
    title, address = family.paper or (None, None)
    return {
        'url': file and file.address,
        'num_classes': 1000,
        'input_size': (3, 224, 224),
        'pool_size': grid(variant.settings, 224),
        'interpolation': 'bicubic',
        'first_conv': f'backbone.{variant.backbone.input_weight.removesuffix(".weight")}',
        'classifier': 'head.fc',
        'license': family.license,
        'origin_url': family.code,
        'paper_name': title,
        'paper_ids': address and f'arXiv:{address.rpartition("/")[-1]}',
        'custom_load': True,  # by our reader
    }


def _file_of(family: Family, archs: list[str]) -> OfficialFile | None:
    """The published classifier of a variant that has these names; the catalogue may shorten each part of them."""
    found = {
        model.variant.removeprefix(f'{family.name.lower()}_'): model.weights
        for model in family.models
        if model.task == 'imagenet' and model.weights is not None
    }
    fitting = [name for name in found if name in archs] or [
        name for name in found for arch in archs if len(arch) > 2 and _shortens(name.split('_'), arch.split('_'))
    ]
    return found[fitting[0]] if fitting else None


def _shortens(parts: list[str], whole: list[str]) -> bool:
    return len(parts) == len(whole) and all(map(str.startswith, whole, parts))


def _create(
    variant: Variant,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    features_only: bool = False,
    **options: Any,
) -> Classifier | Features:
    """The function that timm calls for a name; ``options`` are those of :class:`Classifier` or :class:`Features`."""
    overlay = dict(pretrained_cfg_overlay or {})
    found = resolve_pretrained_cfg(variant.name, pretrained_cfg, overlay)
    if not (found.source or found.state_dict or found.hf_hub_id):  # those are in timm's own form
        overlay |= {'file': found.file or _source(found.url), 'custom_load': True}
    build = partial(build_model_with_cfg, variant=variant.name, pretrained=pretrained, pretrained_cfg=pretrained_cfg)
    if not features_only:
        return build(partial(Classifier, variant), pretrained_cfg_overlay=overlay, **options)
    unused = ('num_classes', 'global_pool', 'feature_cls')
    model = build(partial(Features, variant), pretrained_cfg_overlay=overlay, kwargs_filter=unused, **options)
    model.pretrained_cfg = model.default_cfg = pretrained_cfg_for_features(model.pretrained_cfg)
    model.prune()
    return model


def _source(address: str | None) -> str | None:
    """What our reader is given for an address: the file in ``weights/``, or the address, which it explains."""
    names = (file.name for file in FILES.values() if file.address == address)
    return next((str(WEIGHTS / name) for name in names if (WEIGHTS / name).is_file()), address)


for _family in FAMILIES.values():
    register(_family)


def __getattr__(name: str) -> Any:
    raise AttributeError(f'mmvim.timm has no model {name!r}{hint(name, NAMES)}')
