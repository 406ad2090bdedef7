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

FAR = 1e-8
"""Probability of counts of one group that are so small, and of those so large, that they are left out of a sum."""
LIKELY = 1 << 22
"""Counts of all groups together that are told apart; where more are likely, neighbours are taken together."""
GRID = 1 << 14
"""Places at which the law of a group with more likely counts than that is computed; between them it is a line."""

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

    Counts of groups are independent, so the law of their sum is the convolution of their laws. Where more than `LIKELY`
    counts are likely, the range may be wider by a step of as many as are taken together, for each group.
    """
    m, k, n = np.array(groups, np.int64).T
    if len(groups) == 1:
        low, high = quantiles((tail, 1 - tail), m, k, n)[:, 0].tolist()
        return low, high
    first, last = quantiles((FAR, 1 - FAR), m, k, n)
    width = max(1, -(-int((last - first).sum()) // LIKELY))
    ends = zip(groups, first.tolist(), last.tolist(), strict=True)
    reached = np.cumsum(_sum_of([_masses(*group, begin, end, width) for group, begin, end in ends]))
    low, high = (first.sum() + width * np.searchsorted(reached, (tail - 1e-9, 1 - tail - 1e-9))).tolist()
    return low, min(high + (width - 1) * len(groups), int(m.sum()))


def _sum_of(laws: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The law of the sum of independent counts; two and two are joined, so that no long one meets many short ones."""
    from scipy.signal import fftconvolve  # takes half a second to import: only who asks pays

    while len(laws) > 1:
        pairs = zip(laws[::2], laws[1::2], strict=False)
        laws = [np.maximum(fftconvolve(*pair), 0) for pair in pairs] + laws[len(laws) - len(laws) % 2 :]
    return laws[0]


def _masses(m: int, k: int, n: int, first: int, last: int, width: int) -> NDArray[np.float64]:
    """Probabilities of the counts from the first to the last, so many taken together."""
    if last - first > LIKELY:
        grid = np.linspace(first - 1, last, GRID).astype(np.int64)
        edges = np.minimum(np.arange(first - 1, last + width, width), last)
        return np.diff(np.interp(edges, grid, cdf(np.maximum(grid, 0), m, k, n)))
    x = np.arange(first, last)
    rise = np.log((m - x) / (x + 1) * ((k + x) / (n - k + m - x)))  # from each count to the next
    height = np.append(0.0, np.cumsum(rise))
    mass = np.exp(height - height.max())
    mass = np.append(mass / mass.sum(), np.zeros(-len(mass) % width))
    return np.asarray(mass.reshape(-1, width).sum(1))
