"""How many of the next normal samples raise a false alarm, when n calibration scores set the threshold at rank k.

The threshold is the k-th largest calibration score, and F of m new scores lie above it. All n + m scores in one order
are equally likely to be dealt in any way, so that

    F ~ BetaBinomial(m, k, n + 1 - k),   P(F <= f) = P(X >= k),   X ~ Hypergeometric(n of n + m, f + k draws):

F <= f says that the f + k largest of all hold k calibration scores or more. The second form takes a sum over the
calibration scores in the place of one over the samples, so a year of them costs no more than a day.

Assumption: exchangeable scores without ties (with ties there are fewer alarms).

Source: Marques, *On the universal distribution of the coverage in split conformal prediction*, 2023.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 4096
"""About how many counts of several groups are told apart; where there are more, neighbours are taken together."""
FAR = 1e-9
"""Probability of counts so small or so large that they are not told apart."""

Counts = NDArray[np.int64]


def cdf(f: ArrayLike, m: ArrayLike, k: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """P(F <= f), see above; the arguments are whole numbers of one shape, 0 <= f <= m and 1 <= k <= n."""
    from scipy.stats import hypergeom  # takes half a second to import: only who asks pays

    f, m, k, n = (np.asarray(part, np.int64) for part in (f, m, k, n))
    return np.asarray(hypergeom.sf(k - 1, n + m, n, f + k))


def quantiles(levels: Sequence[float], m: ArrayLike, k: ArrayLike, n: ArrayLike) -> Counts:
    """The least f with P(F <= f) >= level, for Q levels and laws (K,) each: (Q, K)."""
    asked = np.array(levels)[:, None] - 1e-9  # rounding must not miss a level that is reached exactly
    m, k, n = np.broadcast_arrays(*np.atleast_1d(m, k, n))
    low = np.zeros((len(levels), len(m)), np.int64)
    high = np.broadcast_to(m, low.shape).astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        enough = cdf(middle, m, k, n) >= asked
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low


def central_range(groups: Sequence[tuple[int, int, int]], tail: float) -> tuple[int, int]:
    """Central range of the alarms of all groups together, each with (m, k, n) of its own; at most `tail` on each side.

    Counts of groups are independent, so the law of their sum is the convolution of their laws. It is exact up to about
    `BINS` counts; with more, the range may be wider on each side by a step for each group, of which there are `BINS`
    in all that is likely.
    """
    m, k, n = np.array(groups, np.int64).T
    if len(groups) == 1:
        low, high = quantiles((tail, 1 - tail), m, k, n)[:, 0].tolist()
        return low, high
    first, last = quantiles((FAR, 1 - FAR), m, k, n)
    width = max(1, -(-int((last - first).sum()) // BINS))
    total = np.ones(1)
    for part, begin, end in zip(groups, first.tolist(), last.tolist(), strict=True):
        total = np.convolve(total, _masses(part, range(begin, end + width, width)))
    low, high = (first.sum() + width * np.searchsorted(np.cumsum(total), (tail - 1e-9, 1 - tail - 1e-9))).tolist()
    return low, min(high + (width - 1) * len(groups), int(m.sum()))


def _masses(group: tuple[int, int, int], begins: range) -> NDArray[np.float64]:
    """Probabilities of steps of counts, one from each begin; the first and the last hold what lies beyond, too."""
    ends = np.minimum(np.array(begins) + begins.step - 1, group[0])
    return np.diff(np.concatenate([[0.0], cdf(ends, *group)[:-1], [1.0]]))
