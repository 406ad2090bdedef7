"""Other ways to show a p-value or a decision. None of them changes what is flagged.

| function            | range     | says                                                                              |
|---------------------|-----------|-----------------------------------------------------------------------------------|
| `normal_percentile` | [0, 1)    | the share of normal samples that score lower, 1 - p                               |
| `surprisal`         | [0, inf)  | -log10 p: 3 means that one normal sample in a thousand scores as high             |
| `false_alarm_floor` | [0, 1)    | the least share of false alarms among samples with this p-value, given prevalence |
| `stability`         | [0, 1]    | how often a fresh calibration set would decide the same                           |
| `kriegel_scale`     | [0, 1]    | scores on a Gaussian scale; nothing is known of it for other scores               |

A p-value is a statement about normal samples. How likely a flagged sample is to be an anomaly depends on how rare
anomalies are, which no calibration knows: a p-value of 0.01 at one anomaly in a thousand leaves at least 99 % false
alarms.

`stability`: let a normal sample have rank r among n calibration scores and be flagged up to rank k. Of a fresh set of n
scores, the number C above the sample follows BetaBinomial(n, r, n + 2 - r), so the fresh set flags it with probability
P(C <= k - 1). That is exact for normal samples with continuous scores; it understates how stably a sample above nearly
all normal ones is flagged. A binomial law with r/(n + 2) in place of the unknown tail would forget that r itself was
drawn, and promise too much stability near the threshold.

Source: Sellke, Bayarri, Berger, *Calibration of p values for testing precise null hypotheses*, 2001 (floor); Perini,
Vercruyssen, Davis, *Quantifying the confidence of anomaly detectors in their example-wise predictions*, 2020 (the idea
of stability; there over training sets); Marques, *On the universal distribution of the coverage in split conformal
prediction*, 2023 (the law); Kriegel, Kröger, Schubert, Zimek, *Interpreting and unifying outlier scores*, 2011.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, gammaln

from deepad.scoring.conformal import Calibration, Scores, Threshold, as_scores
from deepad.scoring.guarantee import LAWFUL, check_level

HIGH, MEDIUM = 0.95, 0.75
"""Stability from which a decision counts as highly or fairly stable."""


def normal_percentile(p_values: ArrayLike) -> Scores:
    """1 - p (N,) in [0, 1): the share of normal samples that score lower; NaN for NaN.

    Raises:
        ValueError: p-values outside (0, 1].
    """
    return np.asarray(1 - _as_p_values(p_values))


def surprisal(p_values: ArrayLike) -> Scores:
    """-log10 p (N,) in decimal digits, >= 0: one more says ten times rarer among normal samples; NaN for NaN.

    Raises:
        ValueError: p-values outside (0, 1].
    """
    return np.asarray(0 - np.log10(_as_p_values(p_values)))  # 0 - x: no negative zero


def false_alarm_floor(p_values: ArrayLike, prevalence: float) -> Scores:
    """Least share (N,) of false alarms among samples with these p-values, in [0, 1); NaN for NaN.

    The floor is 1/(1 + pi/((1 - pi) B)) with prevalence pi and B = -e p ln p for p < 1/e, 1 above: no anomalies whose
    density of p-values falls with p can do better. Real ones do worse. Without a p-value the share is 1 - pi.

    Args:
        p_values: in (0, 1].
        prevalence: share of anomalies among all samples, in (0, 1).

    Raises:
        ValueError: arguments out of range.
    """
    p, prior = _as_p_values(p_values), check_level("prevalence", prevalence)
    bound = np.where(p < math.exp(-1), -math.e * p * np.log(p), 1.0)
    against = np.where(np.isnan(p), np.nan, bound) * (1 - prior)
    return np.asarray(against / (against + prior))


def stability(calibration: Calibration, scores: ArrayLike, threshold: Threshold) -> Scores:
    """Probability (N,) that a fresh calibration set of the same size decides the same about scores (N,).

    Averages over what is not known of the sample; NaN for a NaN score, which is flagged whatever the calibration.
    Costs O(k min(N, n)) time.

    Raises:
        ValueError: a threshold that is not a rank among the scores of this calibration, or scores that depend on each
            other (kind `none`, or several slots a block).
    """
    n, k = calibration.n, threshold.k
    if threshold.guarantee.kind not in LAWFUL or threshold.guarantee.slots > 1:
        raise ValueError(
            f"the threshold is of kind {str(threshold.guarantee.kind)!r}, whose scores follow no known law: "
            "stability is known for single samples that are exchangeable"
        )
    if not 1 <= k <= n or threshold.guarantee.n != n or calibration.scores[n - k] != threshold.value:
        raise ValueError(
            f"threshold {threshold.value:.6g} (rank {k} of {threshold.guarantee.n} scores) is no rank of this "
            f"calibration of {n} scores: pass calibration.threshold(...)"
        )
    ranks = calibration.ranks(scores)
    distinct, where = np.unique(ranks, return_inverse=True)
    flags = _flags_again(distinct, k, n)[where]
    same = np.where(ranks <= k, flags, 1 - flags)
    return np.where(ranks == 0, np.nan, same)


def stability_class(stabilities: ArrayLike) -> NDArray[np.str_]:
    """`"high"` from 0.95, `"medium"` from 0.75, `"low"` below, `"invalid"` for NaN, of stabilities (N,)."""
    values = as_scores(stabilities, "stabilities")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("stabilities must lie in [0, 1]: pass what stability(...) gave")
    return np.select([np.isnan(values), values >= HIGH, values >= MEDIUM], ["invalid", "high", "medium"], "low")


def kriegel_scale(scores: ArrayLike, mean: float, std: float) -> Scores:
    """max(0, erf((s - mean)/(std sqrt 2))) (N,) in [0, 1]: a scale for the eye, which decides nothing; NaN for NaN.

    For Gaussian scores it is the share of normal samples nearer to the mean; for others it is only monotone.

    Args:
        scores: one number a sample.
        mean: of normal scores, in their unit.
        std: their standard deviation, in the same unit.

    Raises:
        ValueError: a mean or std that is not finite, or std <= 0.
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ValueError(f"mean must be finite and std finite and above 0, got mean={mean!r}, std={std!r}")
    return np.asarray(np.maximum(0.0, erf((as_scores(scores) - mean) / (std * math.sqrt(2)))))


def _as_p_values(p_values: ArrayLike) -> Scores:
    p = as_scores(p_values, "p_values")
    if ((p <= 0) | (p > 1)).any():
        raise ValueError(
            "p_values must lie in (0, 1], or be NaN: pass what Calibration.p_values gave; no finite calibration gives 0"
        )
    return p


def _flags_again(ranks: NDArray[np.int64], k: int, n: int) -> Scores:
    """P(C <= k - 1) for C ~ BetaBinomial(n, r, n + 2 - r), one for each rank r; ranks of 0 give any number."""
    r = np.maximum(ranks, 1).astype(np.float64)
    # log P(C = 0) = log of B(r, 2n + 2 - r) / B(r, n + 2 - r); the ratio of neighbours is rational
    log_mass = gammaln(2 * n + 2 - r) - gammaln(2 * n + 2) + gammaln(n + 2) - gammaln(n + 2 - r)
    total = np.exp(log_mass)
    for c in range(k - 1):
        log_mass = log_mass + np.log((n - c) * (r + c) / ((c + 1) * (2 * n + 1 - r - c)))
        total += np.exp(log_mass)
    return np.asarray(np.minimum(total, 1.0))
