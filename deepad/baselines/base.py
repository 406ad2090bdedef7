"""The contract of every baseline: a classical model to stand beside a deep one.

A baseline sees all of the normal training data at once, and scores rows independently of each other. What is fitted
is plain arrays, so it is saved without pickle.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from deepad.errors import InputError, NotFittedError
from deepad.fingerprint import Fingerprints, fingerprint_rows

Array = NDArray[Any]


class Baseline(ABC):
    """A model of normal with `fit(x)` and `score(x)` on raw samples (N, *shape), which are flattened.

    Constructor arguments are plain values, stored under their own names. Fitted state is the arrays named in
    `fitted`, stored with a trailing underscore, as in scikit-learn.
    """

    fitted: ClassVar[tuple[str, ...]]
    """Names of the fitted arrays, without the underscore."""

    shape: tuple[int, ...]
    fit_rows: Fingerprints | None = None
    """Fingerprints of the rows that fitted this model; None if it was loaded."""
    inputs: dict[str, Any] | None = None
    """What the columns or channels of raw input are, if the data say so."""

    def fit(self, x: Array) -> Self:
        """Learn from normal samples (N, *shape).

        Raises:
            ValueError: fewer samples than the model needs, or values that are not finite numbers.
        """
        x = np.asarray(x)
        if x.ndim < 2 or x.dtype.kind not in "fiub" or not np.isfinite(x).all():
            raise ValueError(f"a baseline is fitted on finite numbers (N, *shape), got {x.dtype} of shape {x.shape}")
        self.shape = x.shape[1:]
        self._fit(_flat(x))
        self.fit_rows = fingerprint_rows(x)
        return self

    def score(self, x: Array) -> NDArray[np.float64]:
        """Anomaly scores (N,) of samples (N, *shape), higher is more anomalous; the unit is the member's.

        Raises:
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        return self._score(_flat(x))

    def contributions(self, x: Array) -> NDArray[np.float64]:
        """How much each part of samples (N, *shape) adds to their score: (N, *shape).

        Raises:
            InputError: this model does not split its score.
            NotFittedError: before `fit`.
        """
        self._require_fitted()
        return self._contributions(_flat(x)).reshape(x.shape)

    def _contributions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the values of rows (N, D) add to their score (N, D)."""
        raise InputError(
            f"{type(self).__name__} does not split its score over its input: score steps by the rule 'window'"
        )

    @abstractmethod
    def _fit(self, x: NDArray[np.float64]) -> None:
        """Learn from rows (N, D) and set the fitted arrays."""

    @abstractmethod
    def _score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (N,) of rows (N, D)."""

    @property
    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""

    def state_arrays(self) -> dict[str, Array]:
        """The fitted arrays, for the artifact."""
        self._require_fitted()
        return {name: np.asarray(getattr(self, f"{name}_")) for name in self.fitted}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """Rebuild from constructor arguments and `state_arrays`; `shape` is set by the caller.

        Raises:
            ValueError: arguments or arrays that do not belong to this class.
        """
        model = cls(**params)
        if arrays.keys() != set(cls.fitted):
            raise ValueError(f"a {cls.__name__} has the arrays {', '.join(cls.fitted)}, got {', '.join(arrays)}")
        for name, array in arrays.items():
            setattr(model, f"{name}_", array)
        return model

    def _require_fitted(self) -> None:
        if not all(hasattr(self, f"{name}_") for name in self.fitted):
            raise NotFittedError(f"this {type(self).__name__} has not been fitted: call fit first")


def _flat(x: Array) -> NDArray[np.float64]:
    return np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float64)
