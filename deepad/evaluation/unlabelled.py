"""What scores say without labels, and what they do not.

| function     | says                                                         | does not say                        |
|--------------|--------------------------------------------------------------|-------------------------------------|
| `agreement`  | whether models rank alike, and pick the same top k           | that they agree on the anomalies    |
| `stability`  | whether seeds of one model rank alike, and which rows do not | that a stable ranking is a good one |
| `separation` | whether a gap parts the highest scores from the rest         | that what lies above are anomalies  |

None is an estimate of AUROC or of any other metric with labels, and none can be. Models that share a flaw agree on it;
a broken sensor that is known and harmless stands apart from everything. All three can be perfect where the ranking is
worthless (`tests/evaluation/test_unlabelled.py` has such a case). A large comparison of criteria without labels found
none that chose better models than chance or one default model would (Ma et al. 2023). They are for asking what is
wrong when they are low: models that disagree are not all right, and an unstable ranking is not a finding.

Criteria by volume (excess mass, mass-volume curves; Goix 2016) are left out: they need the volume of level sets of the
score, which cannot be computed in more than a few dimensions.

Source: Kendall, *Rank Correlation Methods*, 1948 (tau-b, W); Ma, Zhao, Zhang, Akoglu, *The need for unsupervised
outlier model selection: a review and evaluation of internal evaluation strategies*, 2023; Goix, *How to evaluate the
quality of unsupervised anomaly detection algorithms?*, 2016. For `separation`: Rényi, *On the theory of order
statistics*, 1953 (spacings); Fisher, *Tests of significance in harmonic analysis*, 1929 (law of the largest share).
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import comb

from deepad.errors import InputError

Ranks = NDArray[np.float64]

MOST_SPACINGS = 50
"""Spacings that `separation` looks at: of more, the alternating sum of Fisher's law loses its digits."""


@dataclass(frozen=True)
class Agreement:
    """How alike models rank the same rows.

    Attributes:
        correlation: mean over all pairs of models, in [-1, 1]; 0 by chance.
        overlap: mean over all pairs of |both top k|/|either top k|, in [0, 1]; about k/(2 N - k) by chance.
        k: size of the top.
    """

    correlation: float
    overlap: float
    k: int


@dataclass(frozen=True, eq=False)
class Stability:
    """How alike seeds of one model rank the same rows.

    Attributes:
        concordance: Kendall's W, corrected for ties, in [0, 1]; about 1/M by chance.
        spread: (N,) standard deviation over seeds of the row's rank as a share of N, in [0, 1/2].
    """

    concordance: float
    spread: Ranks


@dataclass(frozen=True)
class Separation:
    """The gap that parts the highest scores most clearly from the rest.

    Attributes:
        share: of the normalised spacings that falls to this gap, in [1/k, 1].
        above: scores above it.
        low: highest score below it.
        high: lowest score above it.
        p_value: how often an exponential tail of scores shows a gap this clear, in [0, 1].
    """

    share: float
    above: int
    low: float
    high: float
    p_value: float


def agreement(
    scores: ArrayLike, *, k: int | None = None, method: Literal["kendall", "spearman"] = "kendall"
) -> Agreement:
    """How alike M models rank N rows; infinite scores keep their rank.

    Args:
        scores: (M, N), a row a model.
        k: size of the top, a tenth of N if not given. Rows that tie at its border belong to it in part.
        method: Kendall's tau-b, or Spearman's rho, which is faster for many models.

    Raises:
        InputError: fewer than 2 models or rows, NaN, or a model that scores all rows alike and so ranks nothing.
        ValueError: k outside [1, N], or another method.
    """
    ranks = _as_ranks(scores)
    models, n = ranks.shape
    k = max(1, n // 10) if k is None else k
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in [1, {n}], the number of rows, got {k!r}")
    if method not in ("kendall", "spearman"):
        raise ValueError(f"method must be 'kendall' or 'spearman', got {method!r}")
    correlate = stats.kendalltau if method == "kendall" else stats.spearmanr
    tops = np.stack([_top(row, k) for row in ranks])
    every = list(combinations(range(models), 2))
    correlations = [float(correlate(ranks[a], ranks[b]).statistic) for a, b in every]
    overlaps = [float(np.minimum(tops[a], tops[b]).sum() / np.maximum(tops[a], tops[b]).sum()) for a, b in every]
    return Agreement(float(np.mean(correlations)), float(np.mean(overlaps)), k)


def stability(scores: ArrayLike) -> Stability:
    """How much of the ranking of N rows does not depend on which of M seeds made it; infinite scores keep their rank.

    W is the variance of the rows' mean ranks over the mean variance of the ranks. The mean of Spearman's rho over all
    pairs of seeds is (M W - 1)/(M - 1) without ties.

    Args:
        scores: (M, N), a row a seed.

    Raises:
        InputError: fewer than 2 seeds or rows, NaN, or a seed that scores all rows alike.
    """
    ranks = _as_ranks(scores)
    concordance = ranks.mean(axis=0).var() / ranks.var(axis=1).mean()
    return Stability(float(min(concordance, 1.0)), np.asarray(ranks.std(axis=0) / ranks.shape[1]))


def separation(score: ArrayLike, *, k: int | None = None) -> Separation:
    """The clearest gap among the k + 1 highest of N scores, and how unusual it is.

    With s_1 >= s_2 >= ... the normalised spacings i (s_i - s_{i+1}), i = 1..k, of an exponential tail are independent
    and exponential, so the largest share g of their sum exceeds x with probability

        sum_{j >= 1, j x < 1} (-1)^{j-1} C(k, j) (1 - j x)^{k-1}.

    It depends on the scale of the scores, not on their order alone. Other tails show gaps without any anomaly: heavier
    ones at their top (take the logarithm of squared errors), scores with an upper limit below it. Gaussian tails do
    not. A group of more than k scores is not seen.

    Args:
        score: (N,), finite.
        k: spacings to look at, in [2, 50]; a tenth of N in this range if not given.

    Raises:
        InputError: scores of another shape or not finite, too few of them, or all equal in the tail.
        ValueError: k out of range.
    """
    values = np.asarray(score, np.float64)
    if values.ndim != 1 or len(values) < 3:
        raise InputError(f"got scores of shape {values.shape}: give at least 3 as (N,)")
    if bad := int((~np.isfinite(values)).sum()):
        raise InputError(f"{bad} of {len(values)} scores are NaN or infinite: a gap needs finite scores, drop them")
    most = min(MOST_SPACINGS, len(values) - 1)
    k = min(most, max(2, len(values) // 10)) if k is None else k
    if not 2 <= k <= most:
        raise ValueError(f"k must lie in [2, {most}] for {len(values)} scores, got {k!r}")
    tail = np.sort(values)[::-1][: k + 1]
    if tail[0] == tail[-1]:
        raise InputError(f"the {k + 1} highest scores all equal {tail[0]:.6g}: a gap needs scores that differ")
    _, exponent = np.frexp(np.abs(tail).max())
    spacings = np.arange(1, k + 1) * -np.diff(np.ldexp(tail, -exponent))  # exact, and huge scores do not overflow
    i = int(spacings.argmax())
    share = float(spacings[i] / spacings.sum())
    return Separation(share, i + 1, float(tail[i + 1]), float(tail[i]), _largest_share(share, k))


def _largest_share(share: float, k: int) -> float:
    """P(the largest of k exponential variables has this share of their sum, or more)."""
    j = np.arange(1, min(k, math.floor(1 / share)) + 1)
    terms = -((-1.0) ** j) * comb(k, j) * np.maximum(1 - j * share, 0.0) ** (k - 1)
    return float(np.clip(terms.sum(), 0.0, 1.0))


def _as_ranks(scores: ArrayLike) -> Ranks:
    """Ranks (M, N) of scores (M, N) within each model, ties at their mean."""
    array = np.asarray(scores)
    if array.ndim != 2 or min(array.shape) < 2 or array.dtype.kind not in "fiub":
        raise InputError(
            f"got scores of shape {array.shape} and dtype {array.dtype}: give real numbers (M, N), at least 2 models "
            "by 2 rows"
        )
    if missing := int(np.isnan(array).any(axis=0).sum()):
        raise InputError(f"{missing} of {array.shape[1]} rows have a NaN score: drop them for all models")
    constant = (array == array[:, :1]).all(axis=1)
    if constant.any():
        raise InputError(f"model {int(constant.argmax())} scores all rows alike, which ranks nothing: leave it out")
    return np.asarray(stats.rankdata(array, axis=1))


def _top(ranks: Ranks, k: int) -> Ranks:
    """How far each row (N,) belongs to the k highest: 1 above the border, shared alike by those that tie at it."""
    border = np.sort(ranks)[-k]
    above, at = ranks > border, ranks == border
    return np.asarray(above + at * (k - above.sum()) / at.sum())
