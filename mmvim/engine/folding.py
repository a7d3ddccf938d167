"""Batch norms as a part of the convolutions before them."""

from inspect import Parameter, signature

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Shallow(fx.Tracer):
    """Traces what a module itself does, and not what its children do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def fold_batch_norms(model: nn.Module) -> int:
    """Fold every batch norm that reads the output of a convolution, and nothing else does, into that convolution.

    Only for inference: results differ by the rounding of fp32, and the model has other parameters than before. Which
    norm reads what is seen by tracing the ``forward`` of the module that both belong to; where that cannot be traced,
    or one of them is called more than once, nothing is changed.

    Args:
        model: In eval mode; changed in place.

    Returns:
        Number of norms that were folded.
    """
    folded = 0
    for module in list(model.modules()):
        for conv, norm in _pairs(module):
            transposed = isinstance(getattr(module, conv), _ConvTransposeNd)
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm), transposed))
            setattr(module, norm, nn.Identity())
            folded += 1
    return folded


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of children: a convolution and the norm that alone reads its output."""
    children = dict(module.named_children())
    norms = {name for name, child in children.items() if _has_statistics(child)}
    convs = {name for name, child in children.items() if _takes_a_norm(child)}
    if not norms or not convs:
        return []
    optional = {name: p.default for name, p in signature(module.forward).parameters.items()
                if p.default is not Parameter.empty}  # fmt: skip
    try:
        graph = _Shallow().trace(module, concrete_args=optional)
    except Exception:  # noqa: BLE001  a forward may do anything with what stands for a tensor here
        return []
    calls = [node for node in graph.nodes if node.op == 'call_module']
    targets = [node.target for node in calls]
    found = []
    for node in calls:
        before = node.args[0] if node.args else None
        if node.target not in norms or not isinstance(before, fx.Node) or before.target not in convs:
            continue
        if len(before.users) == targets.count(node.target) == targets.count(before.target) == 1:
            found.append((before.target, node.target))
    return found


def _has_statistics(child: nn.Module) -> bool:
    return isinstance(child, _BatchNorm) and child.running_mean is not None and child.running_var is not None


def _takes_a_norm(child: nn.Module) -> bool:
    # In a grouped deconvolution the channels of the weights are not those of the output.
    return isinstance(child, _ConvNd) and not (isinstance(child, _ConvTransposeNd) and child.groups > 1)
