"""Which classes of a labelled set are anomalies: one or several held out, or the mirror, all but a few."""

from collections.abc import Sequence


def classes_title(name: str, anomalous: frozenset[int], n: int) -> str:
    """Such as `MNIST without 9`, or `MNIST, only 3 normal` in the mirror protocol."""
    normal = frozenset(range(n)) - anomalous
    if len(anomalous) <= len(normal):
        return f"{name} without {', '.join(map(str, sorted(anomalous)))}"
    return f"{name}, only {', '.join(map(str, sorted(normal)))} normal"


def choose_classes(held_out: Sequence[int] | int | None, normal: Sequence[int] | int | None, n: int) -> frozenset[int]:
    """The anomalous classes of a labelled set under either protocol.

    Args:
        held_out: classes that are anomalies, all others being normal; or None.
        normal: the mirror: classes that are normal, all others being anomalies; or None.
        n: number of classes.

    Raises:
        ValueError: both or neither given, a class outside 0..n-1, or nothing left on one side.
    """
    if (held_out is None) == (normal is None):
        raise ValueError("give either held_out (classes that are anomalies) or normal (classes that are normal)")
    given = held_out if normal is None else normal
    classes = frozenset([given] if isinstance(given, int) else given or [])
    if not classes or not classes < set(range(n)):
        raise ValueError(f"classes must be some of 0..{n - 1}, not none and not all, got {sorted(classes)}")
    return classes if normal is None else frozenset(range(n)) - classes
