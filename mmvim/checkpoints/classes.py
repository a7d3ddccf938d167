"""Whether tensors of another shape are those of another number of classes, and nothing else."""

from collections.abc import Mapping

from torch import Size, nn


def explain_classes(model: nn.Module, shapes: Mapping[str, tuple[Size, Size]]) -> tuple[int, int] | None:
    """Explain shapes by numbers of classes.

    A tensor counts as one of classes if it belongs to a module with ``num_classes`` and only its first dimension
    differs, which is k * classes or k * (classes + 1) (a background class) before and after, with the same k; and one
    number of classes must explain all tensors of the file.

    Args:
        model: the model.
        shapes: name to (shape in the file, shape in the model); the two differ.

    Returns:
        Number of classes of the file and of the model; None if that is not what they differ in.
    """
    heads = {name: head.num_classes for name, head in model.named_modules() if _count(head)}
    explanations: set[tuple[int, int]] | None = None
    for name, (theirs, ours) in shapes.items():
        head = max((head for head in heads if name.startswith(head + '.')), key=len, default=None)
        if head is None or len(theirs) != len(ours) or not ours or theirs[1:] != ours[1:]:
            return None
        found = {(classes, heads[head]) for classes in _classes(theirs[0], ours[0], heads[head])}
        explanations = found if explanations is None else explanations & found
    return min(explanations, default=None) if explanations else None


def _count(head: nn.Module) -> bool:
    return isinstance(getattr(head, 'num_classes', None), int)


def _classes(theirs: int, ours: int, classes: int) -> set[int]:
    """Numbers of classes of a file whose tensor has ``theirs`` rows where ``classes`` make ``ours``."""
    found = set()
    for background in (0, 1):
        k, rest = divmod(ours, classes + background)
        if rest == 0 and theirs % k == 0 and theirs // k > background:
            found.add(theirs // k - background)
    return found
