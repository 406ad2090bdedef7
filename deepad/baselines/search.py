"""Nearest points, for the baselines that keep some and measure the distance to them."""

import numpy as np
from numpy.typing import NDArray
from sklearn import neighbors

from deepad.baselines.base import BLOCK, Rows, filled

TREE = 15
"""Most features that a tree is searched for; beyond, it would look at nearly every point anyway."""


class Search:
    """Which of some points (N, D) are nearest to rows.

    Beyond `TREE` features matrices are multiplied, in which the difference of two rows that are far from 0 drowns: the
    medians of the points are taken out before, and distances are those of the differences themselves. Rows are then
    searched for in blocks of one size, as such products need it for the same bits (`deepad.baselines.base`).
    """

    def __init__(self, points: Rows) -> None:
        self.points, self._tree = points, points.shape[1] <= TREE
        self._middle = np.zeros(1) if self._tree else np.median(points, axis=0)
        kind = "kd_tree" if self._tree else "brute"
        self._index = neighbors.NearestNeighbors(algorithm=kind).fit(points - self._middle)

    def nearest(self, x: Rows | None, k: int) -> tuple[Rows, NDArray[np.int64]]:
        """Distances (B, k) from rows x (B, D) to their k nearest points, ascending, and which points these are.

        Without x: from each point to the others.
        """
        rows, sought = (self.points, None) if x is None else (x, x - self._middle)
        if sought is not None and not self._tree and len(sought) < BLOCK:
            sought = filled(sought, np.float64)
        which = self._index.kneighbors(sought, k, return_distance=False)[: len(rows)]
        squares = [np.square(rows - self.points[column]).sum(1) for column in which.T]
        distances = np.sqrt(np.stack(squares, 1))
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(which, order, 1)

    def closest(self, x: Rows) -> Rows:
        """The nearest point to each of rows (B, D)."""
        return np.asarray(self.points[self.nearest(x, 1)[1][:, 0]])
