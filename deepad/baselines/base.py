"""The contract of every baseline: a classical model to stand beside a deep one.

A baseline sees all of the normal training data at once, and scores rows independently of each other. What is fitted
is plain arrays, so it is saved without pickle; scikit-learn fits, and the arithmetic of scoring is NumPy's.

Rows are scored in blocks of `BLOCK`, the last one filled up: matrix kernels choose their order of summation by the
size of a batch, so a row would otherwise get other bits in another batch.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError, NotFittedError
from deepad.fingerprint import Fingerprints, fingerprint_rows

Array = NDArray[Any]
Rows = NDArray[np.float64]

BLOCK = 256
LARGEST = 1e100
"""Largest size of a scaled value: squares of larger ones overflow."""
ScalingKind = Literal["standard", "none"]


class Baseline(ABC):
    """A model of normal with `fit(x)` and `score(x)` on raw samples (N, *shape).

    Constructor arguments are plain values, stored under their own names. Fitted state is the shape of a sample, the
    arrays named in `fitted`, stored with a trailing underscore, as in scikit-learn, and those of the scaling.

    A member whose score depends on units has an argument `scaling`: `"standard"` takes mean and standard deviation of
    the training rows out of each feature (D,), or of each channel of windows (T, C) and images (C, H, W); `"none"`
    leaves raw units. A feature that never varies in training keeps its unit, so that an epsilon on it stays one.
    """

    fitted: Mapping[str, str]
    """The fitted arrays by name, without the underscore, with their dimensions: `D` values of a sample, `C` channels of
    a window, a number, or another letter for a size that is the same in all of them, and not 0 if it is a capital. They
    hold floats, or whole numbers where `int` comes first."""

    scaling: ScalingKind = "none"
    shape: tuple[int, ...]
    fit_rows: Fingerprints | None = None
    """Fingerprints of the rows that fitted this model; None if it was loaded."""
    inputs: dict[str, Any] | None = None
    """What the columns or channels of raw input are, if the data say so."""

    def fit(self, x: Array) -> Self:
        """Learn from normal samples (N, *shape).

        Raises:
            ValueError: fewer samples than the model needs, a shape it does not take, or values that are not finite
                numbers; the model is then as it was before.
        """
        x = np.asarray(x)
        if x.ndim < 2 or x.dtype.kind not in "fiub" or not x.size:
            raise InputError(f"a baseline is fitted on numbers (N, *shape), got {x.dtype} of shape {x.shape}")
        rows = np.ascontiguousarray(x, np.float64)  # sums go by the order in memory
        bad = ~(np.abs(rows) <= LARGEST).reshape(len(x), -1).all(1)
        if bad.any():
            raise InputError(
                f"{int(bad.sum())} of {len(x)} rows hold NaN, infinite values or some beyond {LARGEST:g} (first at row "
                f"{int(np.argmax(bad))}): drop or fill them before a baseline is fitted"
            )
        require_rows(rows, 2, type(self).__name__)
        before = vars(self).copy()
        try:
            self.shape = x.shape[1:]
            if self.scaling == "standard":
                self.shift_, self.scale_ = standard_scaling(rows)
            self._fit(self._rows(rows))
            self._check()
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        self.fit_rows = fingerprint_rows(x)
        return self

    def score(self, x: Array) -> Rows:
        """Anomaly scores (N,) of samples (N, *shape), higher is more anomalous; the unit is the member's.

        A score depends on its own sample and the fitted state only, to the last bit.

        Raises:
            InputError: samples of another shape.
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        blocks = [self._score(rows)[:n] for rows, n in self._blocks(x)]
        return np.concatenate([np.empty(0), *blocks])

    def contributions(self, x: Array) -> Rows:
        """How much each part of samples (N, *shape) adds to their score: (N, *shape).

        Raises:
            InputError: this model does not split its score, or samples of another shape.
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        parts = [self._contributions(rows)[:n] for rows, n in self._blocks(x)]
        return np.concatenate([np.empty((0, prod(self.shape))), *parts]).reshape(np.shape(x))

    @property
    def explains(self) -> bool:
        """Whether the score is the sum of what the parts of a sample add to it, see `contributions`."""
        return type(self)._contributions is not Baseline._contributions

    def _contributions(self, x: Rows) -> Rows:
        """What the values of rows (B, D) add to their score (B, D)."""
        raise InputError(f"{type(self).__name__} does not split its score over its input")

    @abstractmethod
    def _fit(self, x: Rows) -> None:
        """Learn from scaled rows (N, D) and set the fitted arrays."""

    @abstractmethod
    def _score(self, x: Rows) -> Rows:
        """Scores (B,) of scaled rows (B, D)."""

    @property
    def params(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def state_arrays(self) -> dict[str, Array]:
        """The fitted arrays, for the artifact."""
        self._require_fitted()
        return {name: np.asarray(getattr(self, f"{name}_")) for name in self._kept}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: Mapping[str, Array], shape: Sequence[int]) -> Self:
        """Rebuild from constructor arguments, `state_arrays` and the shape of a sample.

        Raises:
            ValueError: arguments, arrays or a shape that do not belong to this class or to each other.
        """
        model = cls(**params)
        if not shape or any(type(size) is not int or size < 1 for size in shape):
            raise ValueError(f"the shape of a sample is positive whole numbers, got {shape!r}")
        model.shape = tuple(shape)
        if arrays.keys() != model._kept.keys():
            raise ValueError(f"a {cls.__name__} has the arrays {', '.join(model._kept)}, got {', '.join(arrays)}")
        for name, array in arrays.items():
            setattr(model, f"{name}_", array)
        model._check()
        return model

    def _check(self) -> None:
        """Raise `ValueError` for fitted arrays that scoring could not bear; a member adds what is particular to it."""
        sizes = {"D": prod(self.shape), "C": self.shape[-1]}
        for name, layout in self._kept.items():
            array, letters = getattr(self, f"{name}_"), layout.removeprefix("int ").split()
            for letter, size in zip(letters, array.shape, strict=False):
                sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, letter.isupper()))
            shape, kind = tuple(sizes.get(letter) for letter in letters), "i" if layout.startswith("int ") else "f"
            if array.shape != shape or array.dtype.kind != kind or not np.isfinite(array).all():
                raise ValueError(
                    f"{name} must be finite ({layout}) for samples of {self.shape}, got {array.dtype} {array.shape}"
                )

    @property
    def _kept(self) -> dict[str, str]:
        """The fitted arrays and those of the scaling, with their dimensions."""
        if self.scaling == "none":
            return dict(self.fitted)
        units = {1: "D", 2: "1 C"}.get(len(self.shape), f"{self.shape[0]}" + " 1" * (len(self.shape) - 1))
        return {**self.fitted, "shift": units, "scale": units}

    def _require_fitted(self) -> None:
        if not hasattr(self, "shape") or not all(hasattr(self, f"{name}_") for name in self._kept):
            raise NotFittedError(f"this {type(self).__name__} has not been fitted: call fit first")

    def _rows(self, x: Rows) -> Rows:
        """Scaled rows (N, D) of samples (N, *shape)."""
        if self.scaling == "standard":
            with np.errstate(over="ignore"):  # what is cut off next
                x = (x - self.shift_) / self.scale_
        return np.asarray(np.clip(x.reshape(len(x), -1), -LARGEST, LARGEST))

    def _blocks(self, x: Array) -> Iterator[tuple[Rows, int]]:
        """Scaled rows (`BLOCK`, D), and how many of them are rows of x."""
        x = np.asarray(x)
        if x.shape[1:] != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise InputError(f"this {type(self).__name__} takes samples (N, {wanted}), got {x.shape}")
        for start in range(0, len(x), BLOCK):
            block = x[start : start + BLOCK]
            yield self._rows(filled(block, np.float64)), len(block)


def filled(block: Array, dtype: type[np.floating[Any]]) -> Array:
    """At most `BLOCK` samples (B, *shape) as `BLOCK`: the last one is repeated."""
    whole = np.empty((BLOCK, *block.shape[1:]), dtype)
    whole[: len(block)] = block
    whole[len(block) :] = block[-1]
    return whole


def standard_scaling(x: Rows) -> tuple[Rows, Rows]:
    """Mean and standard deviation of samples (N, *shape), by feature or by channel; 1 for what never varies."""
    kept = {1: 1, 2: 2}.get(x.ndim - 1, 1)  # (D,) by feature, (T, C) by its last axis, (C, H, W) by its first
    axes = tuple(axis for axis in range(x.ndim) if axis != kept)
    shift, scale = x.mean(axes, keepdims=True)[0], x.std(axes, keepdims=True)[0]
    constant = (x.max(axes, keepdims=True) == x.min(axes, keepdims=True))[0]
    return shift, np.where(constant | (scale == 0), 1.0, scale)


def distance_parts(difference: Rows) -> Rows:
    """What each coordinate of differences (N, D) adds to their length: its square over the length, 0 for length 0."""
    squares = np.square(difference)
    length = np.sqrt(squares.sum(1, keepdims=True))
    return np.asarray(np.divide(squares, length, out=np.zeros_like(squares), where=length > 0))


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


def require_rows(x: Rows, least: int, what: str) -> None:
    """Raise `ValueError` for fewer rows (N, D) than a model needs."""
    if len(x) < least:
        raise ValueError(f"{what} needs at least {least} rows, got {len(x)}")
