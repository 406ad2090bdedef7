"""Principal components: the linear autoencoder, and the floor under every other one.

    score(x) = || r - V V' r ||^2,   r = u - mean,   V = leading eigenvectors of the covariance (the PCA residual, "Q")

Assumption: normal samples lie near a linear subspace. It fails where an anomaly lies inside that subspace, far out:
then `MultivariateGaussian` sees it, which weighs all directions by their spread (Hotelling's T^2 and Q in one).

Source: Jackson, Mudholkar, *Control procedures for residuals associated with principal component analysis*, 1979.
"""

import numpy as np
from sklearn import decomposition

from deepad.baselines.arguments import ScalingKind, require_scaling
from deepad.baselines.base import Baseline, Rows


class PCAResidual(Baseline):
    """Squared distance to the principal subspace, in squared scaled units, >= 0.

    Args:
        n_components: dimension of the subspace (int), >= 1, or the share of the variance that it holds at least (float
            in (0, 1)). One direction of the data or more is left out, else nothing but rounding would remain: of one
            feature the residual is the squared distance to the mean.
        scaling: see `Baseline`.
    """

    fitted = {"mean": "D", "components": "k D"}
    expects = "its projection"

    def __init__(self, n_components: int | float = 0.5, scaling: ScalingKind = "standard") -> None:
        share = isinstance(n_components, float) and 0 < n_components < 1
        if not share and (type(n_components) is not int or n_components < 1):
            raise ValueError(
                f"n_components must be a whole number of at least 1, or a share in (0, 1), got {n_components!r}"
            )
        require_scaling(scaling)
        self.n_components, self.scaling = n_components, scaling

    def _fit(self, x: Rows) -> None:
        wanted, most = self.n_components, min(x.shape)
        pca = decomposition.PCA(most if isinstance(wanted, float) else min(wanted, most), random_state=0)
        with np.errstate(invalid="ignore"):  # shares of no variance, where all rows are the same
            pca.fit(x)
        if isinstance(wanted, float):
            wanted = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), wanted)) + 1
        sizes = pca.singular_values_
        rest = pca.noise_variance_ * (most - len(sizes))  # variance in the directions that were not looked for
        # found from a covariance they have the root of its rounding
        varying = int((sizes > 1e-6 * sizes[0]).sum()) + bool(rest > 1e-12 * pca.explained_variance_[0])
        self.mean_, self.components_ = pca.mean_, pca.components_[: min(wanted, max(varying - 1, 0))]

    def _contributions(self, x: Rows) -> Rows:
        r = x - self.mean_
        return np.asarray(np.square(r - (r @ self.components_.T) @ self.components_))

    def _expected(self, x: Rows) -> Rows:
        return np.asarray(self.mean_ + ((x - self.mean_) @ self.components_.T) @ self.components_)
