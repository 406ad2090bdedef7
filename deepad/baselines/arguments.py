"""What the arguments of a baseline may be, and how each is refused."""

from typing import Any, Literal

ScalingKind = Literal["standard", "none"]


def require_whole(least: int, **numbers: Any) -> None:
    """Raise `ValueError` unless all of these are whole numbers of at least so much."""
    for name, number in numbers.items():
        if type(number) is not int or number < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {number!r}")


def require_in(interval: str, **numbers: Any) -> None:
    """Raise `ValueError` unless all of these are numbers in an interval such as `"(0, 1]"`."""
    low, high = map(float, interval[1:-1].split(","))
    for name, number in numbers.items():
        known = isinstance(number, float) or type(number) is int
        end = (interval[0] == "[" and number == low) or (interval[-1] == "]" and number == high)
        if not known or not (end or low < number < high):
            raise ValueError(f"{name} must be a number in {interval}, got {number!r}")


def require_one_of(known: tuple[Any, ...], **choices: Any) -> None:
    """Raise `ValueError` unless all of these are among the known ones."""
    for name, choice in choices.items():
        if choice not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {choice!r}")


def require_seed(seed: Any) -> None:
    """Raise `ValueError` unless this is a seed that NumPy and scikit-learn take."""
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")


def require_scaling(scaling: Any) -> None:
    """Raise `ValueError` unless this is a kind of scaling."""
    require_one_of(("standard", "none"), scaling=scaling)
