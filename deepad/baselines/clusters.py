"""Distances to clusters of training rows.

    KMeansDistance   score(x) = distance to the nearest of K centres
    DBSCANDistance   score(x) = distance to the nearest core sample; a training row is one if at least `min_samples`
                     training rows, itself among them, lie within `eps` of it

Assumption: normal samples form clusters, round ones for k-means, of any shape but one density for DBSCAN. DBSCAN labels
the rows it was fitted on and no others; the distance to its core samples is what says of a new row whether it would be
in a cluster (where it is at most `eps`), and how far from one it is.

Source: Lloyd, *Least squares quantization in PCM*, 1982; Arthur, Vassilvitskii, *k-means++*, 2007; Ester, Kriegel,
Sander, Xu, *A density-based algorithm for discovering clusters in large spatial databases with noise*, 1996.
"""

import warnings

import numpy as np
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning

from deepad.baselines.arguments import ScalingKind, require_in, require_scaling, require_seed, require_whole
from deepad.baselines.base import Baseline, Rows, distance_parts, require_rows
from deepad.baselines.search import Search
from deepad.errors import InputError


class _ToNearestPoint:
    """What members share that keep points and score by the distance to the nearest."""

    by_row = True
    points_: Rows

    def _prepare(self) -> None:
        self._search = Search(self.points_)

    def _score(self, x: Rows) -> Rows:
        return np.asarray(self._search.nearest(x, 1)[0][:, 0])

    def _contributions(self, x: Rows) -> Rows:
        return distance_parts(x - self._search.closest(x))

    def _expected(self, x: Rows) -> Rows:
        return self._search.closest(x)


class KMeansDistance(_ToNearestPoint, Baseline):
    """Distance to the nearest centre of k-means, in scaled units, >= 0.

    Args:
        n_clusters: K, >= 1; where there are fewer distinct training rows, these are the centres.
        seed: of the first centres.
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D"}
    expects = "the nearest centre"

    def __init__(self, n_clusters: int = 20, seed: int = 0, scaling: ScalingKind = "standard") -> None:
        require_whole(1, n_clusters=n_clusters)
        require_seed(seed)
        require_scaling(scaling)
        self.n_clusters, self.seed, self.scaling = n_clusters, seed, scaling

    def _fit(self, x: Rows) -> None:
        found = cluster.KMeans(min(self.n_clusters, len(x)), n_init=1, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct rows than centres
            self.points_ = np.array(found.fit(x).cluster_centers_)


class DBSCANDistance(_ToNearestPoint, Baseline):
    """Distance to the nearest core sample of DBSCAN, in scaled units, >= 0.

    Args:
        eps: radius of a neighbourhood in scaled units, > 0. If not given, `core_share` decides.
        min_samples: training rows within `eps` that make a row a core sample, itself among them, >= 1.
        core_share: without `eps`, the radius at which this share of the training rows is core, in (0, 1].
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D", "radius": "1"}
    expects = "the nearest core sample"

    def __init__(
        self,
        eps: float | None = None,
        min_samples: int = 5,
        core_share: float = 0.9,
        scaling: ScalingKind = "standard",
    ) -> None:
        require_whole(1, min_samples=min_samples)
        if eps is not None:
            require_in("(0, inf)", eps=eps)
        require_in("(0, 1]", core_share=core_share)
        require_scaling(scaling)
        self.eps, self.min_samples, self.core_share, self.scaling = eps, min_samples, core_share, scaling

    def _fit(self, x: Rows) -> None:
        require_rows(x, self.min_samples, f"DBSCAN with min_samples={self.min_samples}")
        # a row is core if its min_samples-th neighbour, itself the first, is within eps: no list of all neighbours
        within = Search(x).nearest(x, self.min_samples)[0][:, -1]
        radius = float(np.quantile(within, self.core_share, method="inverted_cdf")) if self.eps is None else self.eps
        if not (core := within <= radius).any():
            raise InputError(f"no training row has {self.min_samples} rows within eps={radius:g}: raise eps")
        self.points_, self.radius_ = x[core], np.array([radius])
