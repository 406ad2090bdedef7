"""Selection from a batch: flag so that at most a share q of what is flagged is expected to be false alarms.

`alpha` bounds how many of the *normal* samples are flagged; the false discovery rate (FDR) bounds how many of the
*flagged* samples are normal:

    FDR = E[ false alarms / max(1, flagged) ] <= q,

an average over draws of calibration and batch; one selection can be worse. With sorted p-values p_(1) <= ... <= p_(m),
the step-up procedures select the i smallest for the largest i with

| method   | condition                 | FDR      | needs                                                            |
|----------|---------------------------|----------|------------------------------------------------------------------|
| `bh`     | p_(i) <= q i / m          | <= pi0 q | p-values of one calibration set: their dependence is positive    |
| `by`     | p_(i) <= q i / (m H_m)    | <= pi0 q | nothing of the dependence; H_m = 1 + 1/2 + ... + 1/m             |
| `storey` | p_(i) <= q i / (m pi0^)   | <= q     | as `bh`; finds more where many samples are anomalies             |

where pi0 is the share of normal samples in the batch. Storey's estimate, in the form that keeps its promise for
conformal p-values, is pi0^ = (1 + #{i : p_i >= K/(n+1)}) / (m (1 - K/(n+1))) with K = (n + 1) // 2, so it can exceed 1;
where it falls below q the whole batch is selected.

A p-value is a rank k/(n+1), so the decision is made on integers, and nothing can lie below 1/(n+1): a selection that is
not empty has at least `min_batch = ceil(m / (q (n+1)))` samples. Few calibration scores cannot single out one sample of
a large batch; that is warned of, and refused where not even the whole batch could be selected.

For a stream cut into windows of m samples, choose n + 1 as a multiple of m/q: then no level is lost to rounding. The
promise holds for each window by itself, not for the union of windows that use the same calibration.

It fails where the p-values are not valid: see `deepad.scoring.conformal`. P-values from several calibration sets
(groups, folds) or weighted ones need not have the positive dependence: use `by` for valid ones of equal n.

Source: Benjamini & Hochberg, *Controlling the false discovery rate*, 1995; Benjamini & Yekutieli, *The control of the
false discovery rate in multiple testing under dependency*, 2001; Storey, *A direct approach to false discovery rates*,
2002; Bates, Candès, Lei, Romano, Sesia, *Testing for outliers with conformal p-values*, 2023, Theorem 2; Marandon, Lei,
Mary, Roquain, *Adaptive novelty detection with false discovery rate guarantee*, 2024; for windows Krönert, Célisse,
Hattab, *FDR control for online anomaly detection*, 2024.
"""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import ResolutionError
from deepad.scoring.conformal import as_scores
from deepad.scoring.guarantee import check_level

Method = Literal["bh", "by", "storey"]
METHODS = ("bh", "by", "storey")

COARSE = 0.1
"""Share of a batch from which the smallest possible selection is worth a warning."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What was selected from a batch of N samples, m of which have a p-value.

    Attributes:
        mask: (N,) True where a sample is selected.
        invalid: (N,) True where the p-value is NaN: not tested, not selected and not normal either.
        q: bound on the false discovery rate that was asked for, in (0, 1).
        method: `"bh"`, `"by"` or `"storey"`.
        n: number of calibration scores behind each p-value.
        min_batch: the fewest samples that a selection can hold unless it is empty; above m, nothing could be selected.
        pi0: estimated share of normal samples that q was divided by, 1 but for `"storey"`, where it may exceed 1.
        threshold: the largest selected p-value, None if nothing is selected.
    """

    mask: NDArray[np.bool_]
    invalid: NDArray[np.bool_]
    q: float
    method: Method
    n: int
    min_batch: int
    pi0: float
    threshold: float | None

    def __str__(self) -> str:
        tested, invalid = int((~self.invalid).sum()), int(self.invalid.sum())
        aside = f"; {invalid} more could not be scored" if invalid else ""
        return (
            f"{int(self.mask.sum())} of {tested} samples selected ({self.method}): averaged over draws, at most a "
            f"share of {self.q:.4g} of a selection are false alarms{aside}"
        )


def select_fdr(p_values: ArrayLike, q: float, *, n_calibration: int, method: Method = "bh") -> Selection:
    """Select the samples of a batch whose p-values (N,) together keep the false discovery rate at most `q`.

    NaN p-values are no part of the m tests and are reported apart. A batch without tests selects nothing.

    Args:
        p_values: conformal p-values, multiples of 1/(n_calibration + 1), all from one calibration set.
        q: bound on the false discovery rate, in (0, 1).
        n_calibration: number of calibration scores.
        method: see the module docstring.

    Raises:
        ResolutionError: so few calibration scores that not even the whole batch could be selected.
        ValueError: an unknown method, `q` outside (0, 1), or p-values that `n_calibration` scores cannot give.

    Warns:
        UserWarning: no selection can be smaller than a tenth of the batch.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    # what rounds to q counts as q, as in deepad.scoring.ranks: 0.1 stands for one tenth
    level = Fraction(check_level("q", q)) + Fraction(math.nextafter(q, 1) - q) / 2
    ranks = _as_ranks(p_values, n_calibration)
    tested = np.sort(ranks[ranks > 0])
    m, n = len(tested), n_calibration
    if method == "by":
        level /= _harmonic(m)
    _check_resolution(level, q, m, n)
    pi0 = _null_share(tested, n) if method == "storey" and m else Fraction(1)
    step = level * (n + 1) / (pi0 * max(m, 1))  # rank that one more selected sample allows
    allowed = np.array([i * step.numerator // step.denominator for i in range(1, m + 1)], dtype=np.int64)
    within = np.flatnonzero(tested <= allowed)
    largest = int(tested[within[-1]]) if len(within) else 0
    return Selection(
        mask=(ranks > 0) & (ranks <= largest),
        invalid=ranks == 0,
        q=float(q),
        method=method,
        n=n,
        min_batch=math.ceil(1 / step) if m else 0,
        pi0=float(pi0),
        threshold=largest / (n + 1) if largest else None,
    )


def _as_ranks(p_values: ArrayLike, n: int) -> NDArray[np.int64]:
    """The ranks (N,) that p-values are, 0 for NaN."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n_calibration must be the number of calibration scores, at least 1, got {n!r}")
    values = as_scores(p_values, "p_values")
    valid = ~np.isnan(values)
    exact = np.where(valid, values, 0.0) * (int(n) + 1)
    ranks = np.rint(np.clip(exact, 0, int(n) + 2)).astype(np.int64)
    wrong = valid & ((np.abs(exact - ranks) > 1e-6) | (ranks < 1) | (ranks > n + 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{int(wrong.sum())} of {len(values)} p_values are no k/(n_calibration + 1) with k = 1..{n + 1} (first at "
            f"row {first}: {values[first]:.6g}): pass what Calibration.p_values gave, and the n of that calibration"
        )
    return np.asarray(ranks)


def _null_share(tested: NDArray[np.int64], n: int) -> Fraction:
    """Storey's estimate of the share of normal samples, at the middle of the ranks."""
    middle = (n + 1) // 2
    return (1 + int((tested >= middle).sum())) / (len(tested) * (1 - Fraction(middle, n + 1)))


def _harmonic(m: int) -> Fraction:
    """1 + 1/2 + ... + 1/m, exactly up to 100; beyond, no boundary can be met exactly and the nearest double will do."""
    if m > 100:
        return Fraction(math.fsum(1 / i for i in range(1, m + 1)))
    return sum((Fraction(1, i) for i in range(1, m + 1)), Fraction(0)) or Fraction(1)


def _check_resolution(level: Fraction, q: float, m: int, n: int) -> None:
    """Refuse what can never be selected, warn of what can only be selected in bulk."""
    if m == 0:
        return
    smallest = math.ceil(m / (level * (n + 1)))
    if smallest > m:
        raise ResolutionError(
            f"q={q:g} can select nothing from a batch of {m} with {n} calibration scores: use at least "
            f"{math.ceil(1 / level) - 1} of them, a larger q or smaller batches"
        )
    bearable = max(1, int(COARSE * m))
    if smallest > bearable:
        needed = math.ceil(m / (level * bearable)) - 1
        warnings.warn(
            f"with {n} calibration scores at least {smallest} of the {m} samples are selected or none: "
            f"{needed} scores would let {bearable} be selected",
            stacklevel=3,
        )
