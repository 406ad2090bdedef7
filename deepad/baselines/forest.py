"""Isolation forest: random cuts isolate an anomaly sooner than a normal row.

    score(x) = 2 ^ (-E[h(x)] / c(m)),    h = cuts until x is alone (or with n others: + c(n)),
    c(m) = 2 (ln(m - 1) + 0.5772) - 2 (m - 1)/m,  m = rows each tree is grown on

Assumption: anomalies are few and have values that stand apart in some features. It fails for anomalies inside the range
of every feature, and cuts along axes see clusters that are not there. Units do not matter as long as features are
scaled: trees compare float32, to which a narrow feature far from 0 is one value.

Source: Liu, Ting, Zhou, *Isolation forest*, 2008, equations 1 and 2.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble

from deepad.baselines.arguments import ScalingKind, require_scaling, require_seed, require_whole
from deepad.baselines.base import Baseline, Rows

EULER = 0.5772156649


class IsolationForest(Baseline):
    """Isolation score in (0, 1]: near 1 for what is alone at once, below 1/2 for what is well inside.

    Args:
        n_estimators: trees, >= 1.
        max_samples: rows drawn to grow each tree, >= 2; at most the number of training rows is used.
        seed: of rows and cuts.
        scaling: see `Baseline`.
    """

    fitted = {
        "left": "int K M",
        "right": "int K M",
        "feature": "int K M",
        "cut": "K M",
        "depth": "K M",
        "usual_depth": "positive 1",
    }
    by_row = True

    def __init__(
        self, n_estimators: int = 100, max_samples: int = 256, seed: int = 0, scaling: ScalingKind = "standard"
    ) -> None:
        require_whole(1, n_estimators=n_estimators)
        require_whole(2, max_samples=max_samples)
        require_seed(seed)
        require_scaling(scaling)
        self.n_estimators, self.max_samples, self.seed, self.scaling = n_estimators, max_samples, seed, scaling

    def _fit(self, x: Rows) -> None:
        drawn = min(self.max_samples, len(x))
        grown = ensemble.IsolationForest(n_estimators=self.n_estimators, max_samples=drawn, random_state=self.seed)
        trees = [tree.tree_ for tree in grown.fit(_as_cut(x)).estimators_]
        own = np.arange(max(tree.node_count for tree in trees), dtype=np.int32)
        ways = [(tree.children_left, tree.children_right) for tree in trees]
        # a leaf leads to itself, so that all rows may go on until the deepest is there
        self.left_, self.right_ = (
            _table([np.where(way[side] < 0, own[: len(way[side])], way[side]) for way in ways], own) for side in (0, 1)
        )
        self.feature_ = _table([np.maximum(tree.feature, 0) for tree in trees], np.zeros_like(own))
        self.cut_ = _table([tree.threshold for tree in trees], np.zeros(len(own)))
        rest = [usual_depth(tree.n_node_samples) for tree in trees]
        depths = [steps + more for steps, more in zip(map(_steps, ways), rest, strict=True)]
        self.depth_ = _table(depths, np.zeros(len(own)))
        self.usual_depth_ = usual_depth(np.array([drawn]))

    def _score(self, x: Rows) -> Rows:
        values, trees = _as_cut(x), np.arange(len(self.left_))
        node = np.zeros((len(x), len(trees)), np.int32)
        rows = np.arange(len(x))[:, None]
        while True:
            goes_left = values[rows, self.feature_[trees, node]] <= self.cut_[trees, node]
            after = np.where(goes_left, self.left_[trees, node], self.right_[trees, node])
            if (after == node).all():
                break
            node = after
        return np.asarray(2.0 ** (-self.depth_[trees, node].mean(1) / self.usual_depth_))

    def _check(self) -> None:
        super()._check()
        nodes = self.left_.shape[1]
        for way in (self.left_, self.right_):
            if (way < np.arange(nodes)).any() or (way >= nodes).any():
                raise ValueError("a tree leads back to where it came from, or out of itself")
        if (self.feature_ < 0).any() or (self.feature_ >= prod(self.shape)).any():
            raise ValueError("a tree cuts a feature that samples do not have")


def _as_cut(x: Rows) -> NDArray[np.float32]:
    """Trees compare float32."""
    with np.errstate(over="ignore"):
        return np.clip(x.astype(np.float32), -np.finfo(np.float32).max, np.finfo(np.float32).max)


def _table(rows: list[Any], filling: NDArray[Any]) -> NDArray[Any]:
    """Rows of different lengths as one array, filled up with the end of `filling`."""
    table = np.tile(filling, (len(rows), 1))
    for line, values in zip(table, rows, strict=True):
        line[: len(values)] = values
    return table


def _steps(ways: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.float64]:
    """Cuts from the root to each node; parents come before their children."""
    steps = np.zeros(len(ways[0]))
    for parent, children in enumerate(zip(*ways, strict=True)):
        for child in children:
            if child >= 0:
                steps[child] = steps[parent] + 1
    return steps


def usual_depth(n: NDArray[Any]) -> NDArray[np.float64]:
    """Cuts that isolate one of n rows in a random tree, on average: c(n) of the module docstring, 0 for one row."""
    n = np.asarray(n, np.float64)
    many = np.maximum(n, 3)
    return np.where(n > 2, 2 * (np.log(many - 1) + EULER) - 2 * (many - 1) / many, np.where(n == 2, 1.0, 0.0))
