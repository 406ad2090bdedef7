"""Kernel density: normal where training rows are many.

    score(x) = -log 1/n sum_i N(x; x_i, h^2 I)

Assumption: one bandwidth h suits all of the data, and there are enough rows for their number of features: beyond some
ten features the density is that of the nearest row alone, and `KNearestNeighbors` says the same for less.

Cost: every row is compared with every kept row.

Source: Rosenblatt, *Remarks on some nonparametric estimates of a density function*, 1956; Parzen, *On estimation of a
probability density function and mode*, 1962; Scott, *Multivariate density estimation*, 1992 (the bandwidth).
"""

import math

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from deepad.baselines.arguments import ScalingKind, require_in, require_scaling, require_seed, require_whole
from deepad.baselines.base import Baseline, Rows


class KernelDensity(Baseline):
    """Minus the logarithm of the density, in nats of scaled units.

    Args:
        bandwidth: h, > 0, in scaled units; if not given n^(-1/(D + 4)) (Scott).
        max_rows: most training rows that are kept, a random sample if there are more, >= 1.
        seed: of that sample.
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D", "width": "positive 1"}
    by_row = True

    def __init__(
        self, bandwidth: float | None = None, max_rows: int = 5_000, seed: int = 0, scaling: ScalingKind = "standard"
    ) -> None:
        if bandwidth is not None:
            require_in("(0, inf)", bandwidth=bandwidth)
        require_whole(1, max_rows=max_rows)
        require_seed(seed)
        require_scaling(scaling)
        self.bandwidth, self.max_rows, self.seed, self.scaling = bandwidth, max_rows, seed, scaling

    def _fit(self, x: Rows) -> None:
        if len(x) > self.max_rows:
            x = x[np.sort(np.random.default_rng(self.seed).choice(len(x), self.max_rows, replace=False))]
        self.points_ = x
        self.width_ = np.array([self.bandwidth or len(x) ** (-1 / (x.shape[1] + 4))])

    def _score(self, x: Rows) -> Rows:
        n, d = self.points_.shape
        exponents = cdist(x, self.points_, "sqeuclidean") / (-2 * self.width_**2)
        constant = math.log(n) + d * (math.log(2 * math.pi) / 2 + np.log(self.width_))
        return np.asarray(constant - logsumexp(exponents, axis=1))
