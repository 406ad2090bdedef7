"""Nearest points, for the baselines that keep some and measure the distance to them."""

from abc import ABC

import numpy as np
from numpy.typing import NDArray
from sklearn import neighbors

from deepad.baselines.base import Baseline, Rows

TREE = 15
"""Most features that a tree is searched for; beyond, it would look at nearly every point anyway."""


class NearestPoints(Baseline, ABC):
    """A baseline that keeps points (N, D) in scaled units, under `points`, and searches them."""

    points_: Rows
    _index: neighbors.NearestNeighbors
    _indexed: Rows | None = None

    def _nearest(self, x: Rows | None, k: int) -> tuple[Rows, NDArray[np.int64]]:
        """Distances (B, k) from rows x (B, D) to their k nearest points, ascending, and which points these are.

        Without x: from each point to the others. The search may multiply matrices, in which the difference of two rows
        that are far from 0 drowns: distances are those of the differences themselves.
        """
        if self._indexed is not self.points_:
            kind = "kd_tree" if self.points_.shape[1] <= TREE else "brute"
            self._index, self._indexed = neighbors.NearestNeighbors(algorithm=kind).fit(self.points_), self.points_
        which = self._index.kneighbors(x, k, return_distance=False)
        rows = self.points_ if x is None else x
        squares = [np.square(rows - self.points_[column]).sum(1) for column in which.T]
        distances = np.sqrt(np.stack(squares, 1))
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(which, order, 1)
