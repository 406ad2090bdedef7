"""Distances to training rows: an anomaly is far from all of them, or farther than they are from each other.

    KNearestNeighbors     score(x) = distance to the k-th nearest training row, or the mean of the k distances
    LocalOutlierFactor    score(x) = mean over the k nearest rows o of   lrd(o) / lrd(x),
                          lrd(x) = 1 / mean over them of max(k-distance(o), ||x - o||)

Assumption: the training rows cover what is normal at the scale of the distances between them. Distances mean little
where many features are noise; scaling matters. The local factor compares with the density nearby, so that a loose
cluster does not count as anomalous, but a row between two clusters may be missed.

Cost: all training rows are kept and searched, by a tree where features are few (`deepad.baselines.search`).

Source: Ramaswamy, Rastogi, Shim, *Efficient algorithms for mining outliers from large data sets*, 2000 (k-th distance);
Angiulli, Pizzuti, *Fast outlier detection in high dimensional spaces*, 2002 (mean of the k); Breunig, Kriegel, Ng,
Sander, *LOF: identifying density-based local outliers*, 2000, definitions 3 to 7.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepad.baselines.arguments import ScalingKind, require_one_of, require_scaling, require_whole
from deepad.baselines.base import Baseline, Rows, distance_parts, require_rows
from deepad.baselines.search import Search


class KNearestNeighbors(Baseline):
    """Distance to the k-th nearest training row in scaled units, >= 0.

    Args:
        n_neighbors: k, >= 1.
        distance: `"largest"` of the k distances, or their `"mean"`.
        metric: `"euclidean"`, or `"cosine"`: rows are divided by their length first, so that only their direction
            counts, and distances are at most 2. Of raw images (`scaling="none"`) that takes out the amount of ink.
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D"}
    by_row = True

    def __init__(
        self,
        n_neighbors: int = 5,
        distance: Literal["largest", "mean"] = "largest",
        metric: Literal["euclidean", "cosine"] = "euclidean",
        scaling: ScalingKind = "standard",
    ) -> None:
        require_whole(1, n_neighbors=n_neighbors)
        require_one_of(("largest", "mean"), distance=distance)
        require_one_of(("euclidean", "cosine"), metric=metric)
        require_scaling(scaling)
        self.n_neighbors, self.distance, self.metric, self.scaling = n_neighbors, distance, metric, scaling

    def _fit(self, x: Rows) -> None:
        self.points_ = self._compared(x)

    def _compared(self, x: Rows) -> Rows:
        """Rows (N, D) as they are compared; a row of zeros has no direction and stays."""
        if self.metric == "euclidean":
            return x
        length = np.sqrt(np.square(x).sum(1, keepdims=True))
        return np.asarray(x / np.where(length > 0, length, 1.0))

    def _check(self) -> None:
        super()._check()
        require_rows(self.points_, self.n_neighbors, f"the distance to {self.n_neighbors} neighbours")

    def _prepare(self) -> None:
        self._search = Search(self.points_)

    def _score(self, x: Rows) -> Rows:
        distances = self._search.nearest(self._compared(x), self.n_neighbors)[0]
        return np.asarray(distances[:, -1] if self.distance == "largest" else distances.mean(1))

    def _contributions(self, x: Rows) -> Rows:
        x = self._compared(x)
        nearest = self._search.nearest(x, self.n_neighbors)[1]
        chosen = nearest[:, -1:] if self.distance == "largest" else nearest
        parts = [distance_parts(x - self.points_[column]) for column in chosen.T]
        return np.asarray(np.mean(parts, axis=0))

    @property
    def expects(self) -> str:  # type: ignore[override] # of directions there is nothing in units
        """The training rows that the score compares with, but of directions alone nothing."""
        if self.metric == "cosine":
            return ""
        k = self.n_neighbors
        return "the nearest training row" if k == 1 else f"the {k} nearest training rows"

    def _expected(self, x: Rows) -> Rows:
        nearest = self._search.nearest(x, self.n_neighbors)[1]
        return np.asarray(self.points_[nearest[:, -1:] if self.distance == "largest" else nearest].mean(1))


class LocalOutlierFactor(Baseline):
    """Local outlier factor of a new row among the training rows, > 0: about 1 within a cluster, however loose.

    Args:
        n_neighbors: k, >= 1; at most the number of training rows less one is used.
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D", "reach": "N", "density": "positive N"}
    by_row = True

    def __init__(self, n_neighbors: int = 20, scaling: ScalingKind = "standard") -> None:
        require_whole(1, n_neighbors=n_neighbors)
        require_scaling(scaling)
        self.n_neighbors, self.scaling = n_neighbors, scaling

    def _fit(self, x: Rows) -> None:
        self.points_ = x
        distances, nearest = Search(x).nearest(None, self._k)
        self.reach_ = distances[:, -1]
        self.density_ = self._local_density(distances, nearest)

    def _check(self) -> None:
        super()._check()
        require_rows(self.points_, 2, "the local outlier factor")

    def _prepare(self) -> None:
        self._search = Search(self.points_)

    @property
    def _k(self) -> int:
        return min(self.n_neighbors, len(self.points_) - 1)

    def _local_density(self, distances: Rows, nearest: NDArray[np.int64]) -> Rows:
        """Local reachability density (B,) from the distances (B, k) to the nearest rows."""
        reach = np.maximum(distances, self.reach_[nearest])
        return np.asarray(1 / (reach.mean(1) + 1e-10))  # as scikit-learn: copies of a row are infinitely dense

    def _score(self, x: Rows) -> Rows:
        distances, nearest = self._search.nearest(x, self._k)
        density = self._local_density(distances, nearest)
        return np.asarray((self.density_[nearest] / density[:, None]).mean(1))
