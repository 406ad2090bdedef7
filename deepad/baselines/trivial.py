"""What a model must beat to be worth its name: chance, a constant, and the distance to the mean.

    RandomScore     score(x) = hash of x, uniform in [0, 1)        AUROC 1/2, average precision the share of anomalies
    ConstantScore   score(x) = 0                                   AUROC 1/2 exactly, and never a false alarm
    MeanDistance    score(x) = || u - mean ||

Assumption: none, none, and one round cloud of normal samples. A data set on which a model does no better than these
says nothing for it; one on which the distance to the mean does well is an easy one.
"""

from hashlib import blake2b

import numpy as np

from deepad.baselines.arguments import ScalingKind, require_scaling, require_seed
from deepad.baselines.base import Baseline, Rows, distance_parts


class RandomScore(Baseline):
    """A number in [0, 1) that has nothing to do with the sample but is always the same for it.

    Args:
        seed: another one gives other numbers.
    """

    fitted = {}
    by_row = True

    def __init__(self, seed: int = 0) -> None:
        require_seed(seed)
        self.seed = seed

    def _fit(self, x: Rows) -> None:
        pass

    def _score(self, x: Rows) -> Rows:
        key = str(self.seed).encode()
        digests = b"".join(blake2b((row + 0.0).tobytes(), digest_size=8, key=key).digest() for row in x)
        return (np.frombuffer(digests, "<u8") >> 11) / 2.0**53


class ConstantScore(Baseline):
    """0 for every sample: nothing is ever flagged."""

    fitted = {}

    def _fit(self, x: Rows) -> None:
        pass

    def _contributions(self, x: Rows) -> Rows:
        return np.zeros(x.shape)


class MeanDistance(Baseline):
    """Euclidean distance to the mean of the training rows, in scaled units, >= 0.

    Args:
        scaling: see `Baseline`.
    """

    fitted = {"mean": "D"}
    expects = "the mean"

    def __init__(self, scaling: ScalingKind = "standard") -> None:
        require_scaling(scaling)
        self.scaling = scaling

    def _fit(self, x: Rows) -> None:
        self.mean_ = x.mean(0)

    def _score(self, x: Rows) -> Rows:
        return np.asarray(np.sqrt(np.square(x - self.mean_).sum(1)))

    def _contributions(self, x: Rows) -> Rows:
        return distance_parts(x - self.mean_)

    def _expected(self, x: Rows) -> Rows:
        return np.broadcast_to(self.mean_, x.shape)
