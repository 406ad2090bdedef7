"""The contract of every baseline: a classical model to stand beside a deep one.

A baseline sees all of the normal training data at once, and scores rows independently of each other. What is fitted
is plain arrays, so it is saved without pickle; scikit-learn fits, and the arithmetic of scoring is NumPy's.

Rows are scored in blocks of `BLOCK`, the last one filled up: matrix kernels choose their order of summation by the
size of a batch, so a row would otherwise get other bits in another batch. What goes row by row needs no filling.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.arguments import ScalingKind
from deepad.errors import InputError, NotFittedError
from deepad.fingerprint import Fingerprints, fingerprint_rows
from deepad.frames import as_numbers, refuse_samples

Array = NDArray[Any]
Rows = NDArray[np.float64]

BLOCK = 256
LARGEST = 1e100
"""Largest size of a scaled value: squares of larger ones overflow."""
LOWEST = np.finfo(np.float64).min
"""Lowest score: what overflows upwards is infinite, downwards it is this."""


class Baseline(ABC):
    """A model of normal with `fit(x)` and `score(x)` on raw samples (N, *shape).

    Constructor arguments are plain values, stored under their own names. Fitted state is the shape of a sample, the
    arrays named in `fitted`, stored with a trailing underscore, as in scikit-learn, and those of the scaling.

    With `scaling="standard"` mean and standard deviation of the training rows are taken out of each feature (D,), or of
    each channel of windows (T, C) and images (C, H, W); `"none"` leaves raw units. It is an argument where raw units
    may be wanted. Without it, Gaussians and the members for series always standardise, rules for one variable at a time
    have units of their own, and no unit is compared in a score that is random or constant. A feature that never varies
    in training keeps its unit, so that an epsilon on it stays one.
    """

    fitted: Mapping[str, str]
    """The fitted arrays by name, without the underscore, with their dimensions: `D` values of a sample, `C` channels of
    a window, a number, or another letter for a size that is the same in all of them, and not 0 if it is a capital. They
    hold floats, or whole numbers where `int` comes first; above 0 where `positive` does (of `D D` the diagonal)."""

    by_row = False
    """Whether the arithmetic of a score goes row by row, so that the rows beside it cannot change its bits."""

    least_steps: int = 0
    """Least steps of a window, for a member that takes windows (T, C) of a series alone; 0 if it takes any shape."""

    expects: str = ""
    """What a member expects in place of a sample, in words, such as "the mean"; empty if it expects nothing."""

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
        x = as_numbers(x)
        if x.ndim < 2 or not x.size:
            hint = ": reshape one feature to (N, 1)" if x.ndim == 1 and x.size else ""
            raise InputError(f"a baseline is fitted on numbers (N, *shape), got {x.dtype} of shape {x.shape}{hint}")
        require_numbers(x, LARGEST)
        require_rows(x, 2, type(self).__name__)
        before = vars(self).copy()
        try:
            self.shape = x.shape[1:]
            self._require_windows()
            rows = np.array(x, np.float64, order="C")  # the one copy of them; sums go by the order in memory
            if self.scaling == "standard":
                self.shift_, self.scale_ = standard_scaling(rows)
            self._fit(self._rows(rows))
            found = {name: np.asarray(getattr(self, f"{name}_")) for name in self._kept}
            self._take({name: a if a.dtype.kind == "i" else np.asarray(a, np.float64) for name, a in found.items()})
            self._check()
            self._prepare()
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
            InputError: samples of another shape, or values that are not finite numbers.
            NotFittedError: before `fit`.
        """
        return np.maximum(self._of_blocks(self._score, x), LOWEST)

    def contributions(self, x: Array) -> Rows:
        """How much each part of samples (N, *shape) adds to their score: (N, *shape).

        Raises:
            InputError: this model does not split its score, or what `score` refuses.
            NotFittedError: before `fit`.
        """
        return self._of_blocks(self._contributions, x).reshape(np.shape(x))

    @property
    def explains(self) -> bool:
        """Whether the score is the sum of what the parts of a sample add to it, see `contributions`."""
        return type(self)._contributions is not Baseline._contributions

    def reconstruct(self, x: Array) -> Rows | None:
        """What the model would have expected in place of samples (N, *shape), in their units; None if nothing.

        Raises:
            InputError: what `score` refuses.
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        if not self.expects:
            return None
        rows = self._of_blocks(self._expected, x).reshape(np.shape(x))
        return rows if self.scaling == "none" else rows * self.scale_ + self.shift_

    def scaled(self, x: Array) -> Rows:
        """Samples (N, *shape) as rows (N, D) in the units in which this model compares them."""
        return self._of_blocks(lambda rows: rows, x).reshape(-1, prod(self.shape))

    def _expected(self, x: Rows) -> Rows:
        """What is expected in place of scaled rows (B, D): (B, D). Told by a member that `expects` something."""
        raise NotImplementedError

    def _contributions(self, x: Rows) -> Rows:
        """What the values of scaled rows (B, D) add to their score, (B, D) or (B, *shape)."""
        raise InputError(f"{type(self).__name__} does not split its score over its input")

    @abstractmethod
    def _fit(self, x: Rows) -> None:
        """Learn from scaled rows (N, D), which are the member's to keep, and set the fitted arrays."""

    def _prepare(self) -> None:
        """Make what scoring needs beside the fitted arrays, once they are there."""
        return

    def _score(self, x: Rows) -> Rows:
        """Scores (B,) of scaled rows (B, D): the sum of their contributions, if a member does not say otherwise."""
        return np.asarray(self._contributions(x).reshape(len(x), -1).sum(1))

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
        model._take({name: array.copy() for name, array in arrays.items()})  # aligned, as those that were fitted
        model._check()
        model._prepare()
        return model

    def _take(self, arrays: Mapping[str, Array]) -> None:
        """Set the fitted arrays, row by row in memory: matrix kernels sum in that order."""
        for name, array in arrays.items():
            setattr(self, f"{name}_", np.asarray(array, order="C"))

    def _check(self) -> None:
        """Raise `ValueError` for fitted arrays that scoring could not bear; a member adds what is particular to it."""
        self._require_windows()
        sizes = {"D": prod(self.shape), "C": self.shape[-1]}
        for name, layout in self._kept.items():
            array, words = getattr(self, f"{name}_"), layout.split()
            letters = [word for word in words if word not in ("int", "positive")]
            for letter, size in zip(letters, array.shape, strict=False):
                sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, letter.isupper()))
            shape = tuple(sizes.get(letter) for letter in letters)
            kind = "whole numbers" if "int" in words else "float64"  # compiled code takes no other
            right = array.dtype.kind == "i" if "int" in words else array.dtype == np.float64
            if array.shape != shape or not right or not np.isfinite(array).all():
                raise ValueError(
                    f"{name} must be finite {kind} ({layout}) for samples of {self.shape}, got {array.dtype} "
                    f"{array.shape}"
                )
            if "positive" in words:
                diagonal = letters[-2:] == ["D", "D"]
                least = (np.diagonal(array, axis1=-2, axis2=-1) if diagonal else array).min()
                if least <= 0:
                    raise ValueError(f"{name} must be positive{' on its diagonal' * diagonal}, got {least:g}")

    @property
    def _kept(self) -> dict[str, str]:
        """The fitted arrays and those of the scaling, with their dimensions."""
        if self.scaling == "none":
            return dict(self.fitted)
        units = {1: "D", 2: "1 C"}.get(len(self.shape), f"{self.shape[0]}" + " 1" * (len(self.shape) - 1))
        return {**self.fitted, "shift": units, "scale": f"positive {units}"}

    def _require_fitted(self) -> None:
        if not hasattr(self, "shape") or not all(hasattr(self, f"{name}_") for name in self._kept):
            raise NotFittedError(f"this {type(self).__name__} has not been fitted: call fit first")

    def _require_windows(self) -> None:
        name = type(self).__name__
        if self.least_steps and len(self.shape) != 2:
            raise InputError(f"{name} takes windows (T, C) of a series, got samples of shape {self.shape}")
        if self.shape[0] < self.least_steps:
            raise InputError(f"{name} needs windows of at least {self.least_steps} steps, got {self.shape[0]}")

    def _rows(self, x: Rows) -> Rows:
        """Scaled rows (N, D) of samples (N, *shape), in their place."""
        if self.scaling == "standard":
            with np.errstate(over="ignore"):  # what is cut off next
                x -= self.shift_
                x /= self.scale_
        return np.clip(x, -LARGEST, LARGEST, out=x).reshape(len(x), -1)

    def _of_blocks(self, function: Callable[[Rows], Rows], x: Array) -> Rows:
        """What a function makes of scaled rows (B, D), for all samples (N, *shape) one after the other."""
        self._require_fitted()
        x = as_numbers(x)
        if x.shape[1:] != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise InputError(
                f"this {type(self).__name__} takes samples (N, {wanted}) of numbers, got {x.dtype} of shape {x.shape}"
            )
        require_numbers(x)
        made = [np.empty(0)]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows, by a state nobody fitted, is infinite
            for start in range(0, len(x), BLOCK):
                block = x[start : start + BLOCK]
                rows = np.array(block, np.float64, order="C") if self.by_row else filled(block, np.float64)
                made.append(function(self._rows(rows))[: len(block)])
        return np.concatenate(made[1:] or made)


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


def require_numbers(x: Array, largest: float | None = None) -> None:
    """Raise `InputError` for samples (N, *shape) with NaN, infinite values, or some beyond the largest."""
    most = np.finfo(np.float64).max if largest is None else largest
    blocks = (np.asarray(x[start : start + BLOCK], np.float64) for start in range(0, len(x), BLOCK))
    good = [(np.abs(block) <= most).reshape(len(block), -1).all(1) for block in blocks]
    bad = ~np.concatenate([np.empty(0, bool), *good])
    if bad.any():
        beyond = f", or some beyond {largest:g}" if largest else ""
        worst = np.asarray(x[np.argmax(bad)], np.float64)
        refuse_samples(bad, ~(np.abs(worst) <= most), f"NaN or infinite values{beyond}")


def require_rows(x: Array, least: int, what: str) -> None:
    """Raise `InputError` for fewer rows (N, D) than a model needs."""
    if len(x) < least:
        raise InputError(f"{what} needs at least {least} rows, got {len(x)}")
