"""Conformal calibration: ranks of new scores among held-out normal scores.

With calibration scores S_1..S_n and a new score s, `c(s) = #{i : S_i >= s}` and

    p(s) = (1 + c(s)) / (n + 1).

If s is exchangeable with the S_i (a new normal sample), then P(p <= t) <= t for every t: flagging where p <= alpha
raises false alarms at a rate of at most alpha. It fails when calibration rows also trained or selected the model,
when the data drift, and for overlapping windows of a series, which are not exchangeable.

Decisions compare integer ranks, floats never decide: the threshold is the k-th largest calibration score, and
*flagged <=> rank <= k <=> p <= alpha* holds bit for bit.

Scores that differ by less than rounding noise count as ties: s is lowered by `tie_rtol * max(|s|, median |S|)` before
it is ranked. This only raises p, so validity is kept whatever the tolerance.

Where scores depend on each other in blocks (days of a series) the calibration is made of the maxima of B blocks, or of
the M slots of each. Then (M + c(s)) / (B + 1), at most 1, stands in the place of p: the expected number of alarmed
slots of a new normal block with the threshold at s (`deepad.scoring.events`).

Source: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005; Laxhammar & Falkman, *Inductive
conformal anomaly detection*, 2015; Bates, Candès, Lei, Romano, Sesia, *Testing for outliers with conformal p-values*,
2023.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InsufficientCalibrationError, NonFiniteScoreError
from deepad.frames import from_tensor
from deepad.scoring.envelope import Certificate, ChosenOn, certify, envelope_bounds
from deepad.scoring.guarantee import ASSUMPTIONS, Guarantee, GuaranteeKind, check_level
from deepad.scoring.promise import block_guarantee, guaranteed_rank

Scores = NDArray[np.float64]
OnInsufficient = Literal["raise", "max", "tail"]

TIE_RTOL = 1e-5
"""Relative rounding noise of float32 scoring; use 0 for exact float64 scores."""


def as_scores(scores: ArrayLike, name: str = "scores") -> Scores:
    """Cast scores of any real dtype to a new float64 vector (N,).

    Raises:
        TypeError: complex, object or masked values.
        ValueError: more than one column.
    """
    scores = from_tensor(scores)
    if isinstance(scores, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: fill or drop the masked values first")
    array = np.asarray(scores)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must be one number a sample, shape (N,), got shape {array.shape}")
    return array.astype(np.float64)


def lower_for_ties(scores: Scores, tie_rtol: float, scale: float) -> Scores:
    """`s - tie_rtol * max(|s|, scale)`, elementwise; infinities and NaN stay as they are."""
    if tie_rtol == 0:
        return scores
    with np.errstate(invalid="ignore", over="ignore"):
        lowered = scores - tie_rtol * np.maximum(np.abs(scores), scale)
    return np.where(np.isinf(scores), scores, lowered)


@dataclass(frozen=True)
class Threshold:
    """A decision threshold with the promise it carries.

    Attributes:
        value: the k-th largest calibration score, in the unit of the scores; what a fitted tail says if k is 0.
        k: its rank, counted from the largest.
        guarantee: what it promises.
        tie_rtol: relative tolerance under which a score ties with `value`.
        scale: median |calibration score|, below which the tolerance stops shrinking.
    """

    value: float
    k: int
    guarantee: Guarantee
    tie_rtol: float
    scale: float

    def flag(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """True where a score (N,) lies above the threshold. A NaN score is never normal: it is flagged."""
        lowered = lower_for_ties(as_scores(scores), self.tie_rtol, self.scale)
        return (lowered > self.value) | np.isnan(lowered)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Held-out normal scores, sorted, and what follows from them. Immutable; made by `Calibration.fit`.

    Attributes:
        scores: (n,) float64, ascending, finite, read-only.
        tie_rtol: relative tolerance of ties, see the module docstring.
        scorer_id: digest of the model the scores came from, empty if unknown.
        slots: scores of each exchangeable block, which may depend on each other; 1 for samples.
        unit: what is exchangeable: `"sample"`, or in words how long a block is.
    """

    scores: Scores
    tie_rtol: float = TIE_RTOL
    scorer_id: str = ""
    slots: int = 1
    unit: str = "sample"
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        magnitudes = np.abs(self.scores)
        with np.errstate(over="ignore"):
            scale = np.median(magnitudes)  # adds the two in the middle, which may overflow
        object.__setattr__(self, "scale", float(scale if np.isfinite(scale) else 2 * np.median(magnitudes / 2)))
        self.scores.flags.writeable = False

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        *,
        tie_rtol: float = TIE_RTOL,
        scorer_id: str = "",
        slots: int = 1,
        unit: str = "sample",
    ) -> "Calibration":
        """Keep the scores (n,) of normal samples that no fitting, tuning or model choice has seen.

        Args:
            scores: of samples; or the maxima of the slots of blocks, see `deepad.scoring.events.calibrate_blocks`.
            tie_rtol: relative tolerance of ties; 0 for exact scores.
            scorer_id: digest of the model.
            slots: scores of each exchangeable block.
            unit: what is exchangeable, in words.

        Raises:
            NonFiniteScoreError: a score is NaN or infinite.
            ValueError: no scores, no whole number of blocks, or `tie_rtol` outside [0, 0.1].
            TypeError: scores that are not real numbers.
        """
        values = as_scores(scores, "calibration scores")
        if len(values) == 0:
            raise ValueError("calibration needs at least one normal score, got none")
        if not 0 <= tie_rtol <= 0.1:
            raise ValueError(f"tie_rtol must lie in [0, 0.1], got {tie_rtol!r}")
        if type(slots) is not int or slots < 1 or len(values) % slots:
            raise ValueError(f"{len(values)} scores are no whole number of blocks of {slots!r} slots")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise NonFiniteScoreError(
                f"{len(bad)} of {len(values)} calibration scores are NaN or infinite (first at row {bad[0]}): "
                "calibrate on clean normal rows, or look at what made the model overflow"
            )
        calibration = cls(np.sort(values), float(tie_rtol), scorer_id, slots, unit)
        if calibration.degenerate and calibration.n > 1:
            warnings.warn(
                f"all {calibration.n} calibration scores equal {values[0]:.6g}: only a higher score can be told apart",
                stacklevel=2,
            )
        return calibration

    @property
    def n(self) -> int:
        """Number of calibration scores."""
        return len(self.scores)

    @property
    def in_blocks(self) -> bool:
        """Whether blocks are exchangeable, not single scores."""
        return self.unit != "sample"

    @property
    def degenerate(self) -> bool:
        """True if all calibration scores are equal, so that only "same or larger" can be told."""
        return bool(self.scores[0] == self.scores[-1])

    def ranks(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Ranks 1 + c(s) in 1..n+1 of scores (M,); 1 is above every calibration score, and 0 stands for a NaN score.

        Costs O(M log n) time and O(M) memory.
        """
        values = as_scores(scores)
        lowered = lower_for_ties(values, self.tie_rtol, self.scale)
        ranks = 1 + self.n - np.searchsorted(self.scores, lowered, side="left")
        return np.where(np.isnan(values), 0, ranks).astype(np.int64)

    def p_values(self, scores: ArrayLike) -> Scores:
        """Conformal p-values (M,) in [1/(n+1), 1] of scores (M,); NaN for a NaN score.

        A p-value is the share of normal samples that would score at least as high. It is not the probability that
        the sample is normal.
        """
        return self.p_of_ranks(self.ranks(scores))

    def p_of_ranks(self, ranks: NDArray[np.int64]) -> Scores:
        """P-values (M,) of ranks (M,) from `ranks`."""
        p = np.minimum((ranks - 1 + self.slots) / (self.n // self.slots + 1), 1.0)
        return np.where(ranks == 0, np.nan, p)

    def threshold(
        self,
        alpha: float,
        *,
        kind: str | None = None,
        delta: float | None = None,
        on_insufficient: OnInsufficient = "raise",
    ) -> Threshold:
        """Threshold whose false-alarm rate on new normal samples is at most `alpha`.

        Args:
            alpha: false-alarm rate, in (0, 1); for blocks the expected number of alarmed slots of a block.
            kind: `"marginal"`, `"pac"`, `"simultaneous"`, `"model"` or `"none"`, for blocks `"block"`; see
                `deepad.scoring.guarantee`. If not given: `"marginal"`, `"pac"` with delta, and `"block"` for blocks.
            delta: for `"pac"` and `"simultaneous"`, the allowed probability of an unlucky calibration draw, in (0, 1).
            on_insufficient: where there are too few scores for this level: `"raise"`; `"max"`, the largest score, whose
                level `attained` is above alpha; or `"tail"`, the same as kind `"model"`.

        Raises:
            InsufficientCalibrationError: too few calibration scores for this level; nothing is clamped.
            TailFitError: kind `"model"`, and the tail of the scores cannot be extrapolated.
            ValueError: arguments out of range.
        """
        if kind is None:
            kind = "block" if self.in_blocks else "marginal" if delta is None else "pac"
        if (kind == "block") != self.in_blocks:
            raise ValueError(f"kind={kind!r} cannot be promised: one {self.unit} is exchangeable with another here")
        if on_insufficient not in get_args(OnInsufficient):
            raise ValueError(f"on_insufficient must be one of {get_args(OnInsufficient)}, got {on_insufficient!r}")
        if kind == "block":
            return self._at(block_guarantee(alpha, self.n // self.slots, self.slots, self.unit))
        if kind == "model":
            return self._extrapolated(alpha)
        try:
            return self._at(guaranteed_rank(alpha, self.n, kind=kind, delta=delta)[1])
        except InsufficientCalibrationError:
            if on_insufficient == "raise":
                raise
        if on_insufficient == "tail":
            return self._extrapolated(alpha)
        marginal = GuaranteeKind.MARGINAL
        return self._at(Guarantee(marginal, alpha, 1 / (self.n + 1), self.n, 1, None, ASSUMPTIONS["marginal"]))

    def _at(self, guarantee: Guarantee) -> Threshold:
        return Threshold(float(self.scores[self.n - guarantee.k]), guarantee.k, guarantee, self.tie_rtol, self.scale)

    def _extrapolated(self, alpha: float) -> Threshold:
        """Beyond the largest scores, by a tail fitted to them. Samples have no order, so none is looked at."""
        from deepad.scoring.tail import TailModel  # which needs this module

        tail = TailModel.fit(self.scores, ordered=False)
        alpha = check_level("alpha", alpha)
        return Threshold(tail.upper(alpha), 0, tail.guarantee(alpha), self.tie_rtol, self.scale)

    def envelope(self, delta: float = 0.05) -> Scores:
        """Bounds (n,) on the false-alarm rates of all n thresholds at once, the one above the largest score first.

        Entry k - 1 bounds the rate of "flag above the k-th largest"; with probability 1 - delta all of them hold. For
        whoever looks at more than one threshold.

        Raises:
            ValueError: `delta` outside (0, 1), or a calibration of blocks.
        """
        self._require_samples("an envelope")
        return envelope_bounds(self.n, check_level("delta", delta))

    def certify(self, value: float, *, delta: float = 0.05, chosen_on: ChosenOn = "other") -> Certificate:
        """What the calibration proves about the false-alarm rate of any threshold.

        Args:
            value: the threshold, in the unit of the scores.
            delta: allowed probability that a bound does not hold.
            chosen_on: `"calibration"` if the threshold was chosen by looking at these scores, else `"other"`.

        Raises:
            ValueError: arguments out of range, or a calibration of blocks.
        """
        self._require_samples("a certificate")
        if not np.isfinite(value):
            raise ValueError(f"a threshold must be a finite number, got {value!r}")
        above = self.n - int(np.searchsorted(self.scores, value, side="right"))
        return certify(float(value), above, self.n, delta=check_level("delta", delta), chosen_on=chosen_on)

    def _require_samples(self, what: str) -> None:
        if self.in_blocks:
            raise ValueError(f"{what} needs independent samples, this calibration is made of the maxima of blocks")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the scores, as plain values for JSON."""
        kept = {"n": self.n, "tie_rtol": self.tie_rtol, "scorer_id": self.scorer_id}
        return {**kept, "slots": self.slots, "unit": self.unit} if self.in_blocks else kept
