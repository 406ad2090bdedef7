"""Ensembles: several scores of a sample become one, which is then calibrated once.

Scores of different models have different units, so each of J members is first put on the scale of its own validation
scores V_1j..V_nj. With the tail share t_j(s) = (1 + #{i : V_ij >= s})/(n + 1), the height of a score is

    g_j(s) = -log t_j(s)                                       at the validation scores, linear between them,
    g_j(s) = -log t_j(max) + log(1 + (s - max)/(max - median)) above the largest,  0 below the smallest.

It is continuous and, but for rounding, grows strictly from the smallest validation score on, so that no ties arise at
the top, where all decisions are; but it grows slowly there, so that one member that explodes does not silence the rest.
A change of unit or origin of a member changes nothing.

| transform | combined score                                                                                         |
|-----------|--------------------------------------------------------------------------------------------------------|
| `loglik`  | sum w_j g_j / sum w_j                                                                                  |
| `vote`    | share of the weights of members whose score is above a share `level` of their validation scores, plus  |
|           | at most a thousandth of the smallest weight for the order by `loglik` among equal votes                |

The combined score is calibrated like any other, and its false-alarm rate is that of the calibration, whatever the
dependence of the members. Flagging where any (or most) of several calibrated members flag keeps no level: members that
each keep alpha raise up to J alpha together. The ensemble must be fixed before calibration: neither the validation rows
nor what weights were chosen by may come from the calibration split.

Members that already came with p-values can be merged without a further split, at a price: `merge_p_values`.

Source: Kriegel, Kröger, Schubert, Zimek, *Interpreting and unifying outlier scores*, 2011 (one scale before combining);
Vovk & Wang, *Combining p-values via averaging*, 2020 (merging under any dependence).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import DataLeakError, NonFiniteScoreError
from deepad.frames import from_tensor
from deepad.scoring.conformal import Scores, as_scores
from deepad.scoring.guarantee import check_level

Transform = Literal["loglik", "vote"]

TIE_BREAK = 1e-3
"""Share of the smallest weight that orders samples with equal votes."""


def as_columns(scores: ArrayLike, columns: int | None, name: str = "scores") -> Scores:
    """Cast the scores of several models, a column each, to a new float64 array (N, columns).

    Raises:
        TypeError: complex, object or masked values.
        ValueError: no matrix, or another number of columns.
    """
    array = np.asanyarray(from_tensor(scores))  # a masked array stays one, and is refused
    if array.ndim != 2 or array.shape[1] == 0 or columns not in (None, array.shape[1]):
        wanted = "at least one" if columns is None else columns
        raise ValueError(
            f"{name} must have a column for each of {wanted} models, shape (N, J), got shape {array.shape}"
        )
    return np.stack([as_scores(array[:, j], name) for j in range(array.shape[1])], axis=1)


@dataclass(frozen=True, eq=False)
class ScoreEnsemble:
    """A fixed rule that combines the scores of J members; made by `ScoreEnsemble.fit`.

    Attributes:
        validation: (n, J) float64, finite, each column ascending, read-only.
        weights: (J,) above 0, summing to 1, read-only.
        transform: `"loglik"` or `"vote"`.
        level: share of its validation scores that a member's score must be above for its vote; None for `"loglik"`.
        rows: (n, J) the validation rows as they came, in lexical order, so that they are recognised.
    """

    validation: Scores
    weights: Scores
    transform: Transform
    level: float | None
    rows: Scores
    _curves: tuple[tuple[Scores, Scores, float], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_curves", tuple(_curve(column) for column in self.validation.T))
        for array in (self.validation, self.weights, self.rows):
            array.flags.writeable = False

    @classmethod
    def fit(
        cls,
        validation_scores: ArrayLike,
        *,
        weights: ArrayLike | None = None,
        transform: Transform = "loglik",
        level: float | None = None,
    ) -> "ScoreEnsemble":
        """Learn the scale of each member from scores (n, J) of normal validation samples.

        Args:
            validation_scores: a column for each member; of rows that calibrate nothing afterwards.
            weights: (J,) above 0, in any unit; equal if not given.
            transform: see the module docstring.
            level: for `"vote"`, in (0, 1), at most 1 - 2/(n + 1).

        Raises:
            NonFiniteScoreError: a validation score is NaN or infinite.
            ValueError: arguments out of range, or that do not go together.
        """
        rows = as_columns(validation_scores, None, "validation scores") + 0.0  # -0.0 becomes 0.0
        n, members = rows.shape
        if n < 2:
            raise ValueError(f"an ensemble needs at least 2 validation rows, got {n}")
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise NonFiniteScoreError(
                f"{len(bad)} of {n} validation rows hold NaN or infinite scores (first at row {bad[0]}): drop them, or "
                "look at what made the member overflow"
            )
        shares = np.ones(members) if weights is None else as_scores(weights, "weights")
        if shares.shape != (members,) or not (np.isfinite(shares) & (shares > 0)).all():
            raise ValueError(
                f"weights must be {members} finite numbers above 0, one a member, got {shares.tolist()}: leave a "
                "member out instead of weighing it 0"
            )
        shares = shares / shares.max()
        level = _check_vote(transform, level, n)
        in_order = rows[np.lexsort(rows.T[::-1])]  # tells nothing of the order of samples
        return cls(np.sort(rows, axis=0), shares / shares.sum(), transform, level, in_order)

    @property
    def members(self) -> int:
        """Number J of members."""
        return len(self.weights)

    def __call__(self, scores: ArrayLike) -> Scores:
        """Combined scores (N,), >= 0, of scores (N, J): not lower where a member's score is higher.

        NaN where a member's score is NaN, and inf where one is inf and none NaN. For `"vote"` it lies in [0, 1.001].

        Raises:
            ValueError: another number of members.
        """
        columns = as_columns(scores, self.members)
        heights = np.stack([_height(columns[:, j], *self._curves[j]) for j in range(self.members)], axis=1)
        # member by member, so that a row has the same bits in any batch
        mean = sum((heights[:, j] * self.weights[j] for j in range(self.members)), np.zeros(len(columns)))
        if self.level is None:
            return np.asarray(mean)
        votes = heights > -math.log1p(-self.level)
        share = sum((votes[:, j] * self.weights[j] for j in range(self.members)), np.zeros(len(columns)))
        return np.asarray(share + TIE_BREAK * self.weights.min() * (1 - 1 / (1 + mean)))

    def require_other(self, scores: ArrayLike) -> None:
        """Refuse scores (N, J) for calibration if they hold a row that the ensemble was fitted on.

        Members with few distinct scores share rows by chance; compare the samples themselves then.

        Raises:
            DataLeakError: a row is one of the validation rows, bit for bit.
        """
        columns = as_columns(scores, self.members) + 0.0  # -0.0 becomes 0.0
        known = {row.tobytes() for row in self.rows}
        shared = [i for i, row in enumerate(columns) if row.tobytes() in known]
        if shared:
            raise DataLeakError(
                f"{len(shared)} of {len(columns)} rows fitted the ensemble (first at row {shared[0]}): calibrate on "
                "rows that no model, weight or scale was chosen by"
            )

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Plain values for JSON, and arrays, from which `from_state` makes the same ensemble bit for bit."""
        return {"transform": self.transform, "level": self.level}, {"rows": self.rows, "weights": self.weights}

    @classmethod
    def from_state(cls, document: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> "ScoreEnsemble":
        """The ensemble that `to_state` described.

        Raises:
            ValueError: a state that no ensemble has.
        """
        if set(document) != {"transform", "level"} or set(arrays) != {"rows", "weights"}:
            raise ValueError(
                "the state of an ensemble has transform, level, rows and weights: pass what to_state() gave"
            )
        made = cls.fit(arrays["rows"], weights=arrays["weights"], **document)
        weights = as_scores(arrays["weights"])  # as they were: to normalise again could change their last bit
        if abs(weights.sum() - 1) > 1e-12:
            raise ValueError(f"the weights of a saved ensemble sum to 1, got {weights.sum():.6g}")
        return cls(made.validation, weights, made.transform, made.level, made.rows)


def merge_p_values(p_values: ArrayLike, method: str = "mean") -> Scores:
    """One valid p-value (N,) from those of J members (N, J), whatever their dependence; NaN where any is NaN.

    `"mean"` gives twice their mean, `"min"` gives J times the smallest, both at most 1 and neither better than the best
    of the members. `"mean"` suits members that agree, `"min"` one that stands out. P(merged <= alpha) <= alpha for each
    alpha, averaged over calibration draws.

    Source: Vovk & Wang, *Combining p-values via averaging*, 2020.

    Raises:
        ValueError: p-values outside (0, 1], or a method that needs independence.
    """
    p = as_columns(p_values, None, "p_values")
    if ((p <= 0) | (p > 1)).any():
        raise ValueError("p_values must lie in (0, 1], or be NaN: pass what Calibration.p_values gave")
    if method in ("fisher", "cauchy", "stouffer"):
        raise ValueError(
            f"method={method!r} is not offered: it needs independent p-values (Cauchy's nearly so), and members see "
            "the same sample: use 'mean' or 'min'"
        )
    if method not in ("mean", "min"):
        raise ValueError(f"method must be 'mean' or 'min', got {method!r}")
    members = p.shape[1]
    merged = min(2, members) * p.mean(axis=1) if method == "mean" else members * p.min(axis=1)
    return np.asarray(np.minimum(merged, 1.0))


def _check_vote(transform: str, level: float | None, n: int) -> float | None:
    if transform not in ("loglik", "vote"):
        raise ValueError(f"transform must be 'loglik' or 'vote', got {transform!r}")
    if transform == "loglik":
        if level is not None:
            raise ValueError(f"level={level} belongs to transform='vote'; 'loglik' takes none")
        return None
    if level is None:
        raise ValueError("transform='vote' needs level, the share of validation scores to be above (say 0.95)")
    needed = math.ceil(round(2 / (1 - check_level("level", level)), 9)) - 1
    if n < needed:
        raise ValueError(f"level={level:g} needs at least {needed} validation rows, got {n}: use a lower level")
    return float(level)


def _curve(ascending: Scores) -> tuple[Scores, Scores, float]:
    """Knots of the height of a member: its distinct scores halved, their heights, and half the unit beyond them."""
    n, halves = len(ascending), ascending / 2  # differences of halves cannot overflow
    knots, first = np.unique(halves, return_index=True)
    heights = np.log(n + 1) - np.log1p(n - first)  # n - first scores are at least as high
    top = knots[-1]
    return knots, heights, float(top - np.median(halves) or abs(top) or 0.5)


def _height(scores: Scores, knots: Scores, heights: Scores, unit: float) -> Scores:
    """Heights (N,) of scores (N,) of one member; NaN for NaN. Each step rounds monotonically, unlike `np.interp`."""
    halves = scores / 2
    inner = np.clip(halves, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, inner, side="right") - 1, 0, max(len(knots) - 2, 0))
    right = np.minimum(left + 1, len(knots) - 1)
    width = np.where(right > left, knots[right] - knots[left], 1.0)
    inside = heights[left] + (inner - knots[left]) / width * (heights[right] - heights[left])
    with np.errstate(over="ignore"):
        ratio = np.minimum(np.maximum(halves - knots[-1], 0) / unit, np.finfo(np.float64).max)
    beyond = np.where(scores == np.inf, np.inf, np.log1p(ratio))
    return np.asarray(np.where(np.isnan(scores), np.nan, np.minimum(inside, heights[right]) + beyond))
