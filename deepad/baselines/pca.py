"""Principal components: the linear autoencoder, and the floor under every other one.

    score(x) = || u - V V' u ||^2,   u = x - mean,   V = leading eigenvectors of the covariance (the PCA residual, "Q")

Assumption: normal samples lie near a linear subspace. It fails where an anomaly lies inside that subspace, far out.

Source: Jackson, Mudholkar, *Control procedures for residuals associated with principal component analysis*, 1979.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from deepad.baselines.base import Baseline


class PCAResidual(Baseline):
    """Squared distance to the principal subspace, in squared raw units.

    Args:
        n_components: dimension of the subspace, >= 1; at most the number of rows or features is used.
    """

    fitted = ("mean", "components")

    def __init__(self, n_components: int = 10) -> None:
        if n_components < 1:
            raise ValueError(f"n_components must be at least 1, got {n_components}")
        self.n_components = n_components

    @property
    def params(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"n_components": self.n_components}

    def _fit(self, x: NDArray[np.float64]) -> None:
        if len(x) < 2:
            raise ValueError(f"principal components need at least 2 rows, got {len(x)}")
        pca = PCA(min(self.n_components, *x.shape), random_state=0).fit(x)
        self.mean_, self.components_ = pca.mean_, pca.components_

    def _score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._contributions(x).sum(1))

    def _contributions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        u = x - self.mean_
        residual = u - (u @ self.components_.T) @ self.components_
        return np.asarray(np.square(residual))
