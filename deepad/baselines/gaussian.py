"""Gaussian models of normal samples: one ellipse, or several.

    MultivariateGaussian   d^2 = (u - mean)' S^-1 (u - mean)        squared Mahalanobis distance
                           -log p(u) = (d^2 + log det S + D log 2 pi) / 2
    GaussianMixture        -log p(u) = -log sum_k w_k N(u; mean_k, S_k)

With S = L L' the distance is the squared length of L^-1 (u - mean). Of a window, whose last step comes last, the last
components are what an autoregression on the steps before would leave: the rule `last` scores a forecast. Within a step,
and within a sample that is no window, components are turned to be as like the standardised values as can be
(P^-1/2 V^-1/2 with variances V and correlations P): the square of one is what its value adds to the score.

Assumption: normal samples form an ellipse (or K of them). It fails for curved or hollow shapes. The plain covariance of
few rows in many features is noise: shrink it.

Source: Mahalanobis, *On the generalised distance in statistics*, 1936; Hotelling, *Multivariate quality control*, 1947;
shrinkage: Ledoit, Wolf, *A well-conditioned estimator for large-dimensional covariance matrices*, 2004; robust:
Rousseeuw, Van Driessen, *A fast algorithm for the minimum covariance determinant estimator*, 1999; contributions:
Garthwaite, Koch, *Evaluating the contributions of individual variables to a quadratic form*, 2016; mixtures: Dempster,
Laird, Rubin, *Maximum likelihood from incomplete data via the EM algorithm*, 1977.
"""

import math
import warnings
from typing import Literal

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn import covariance, mixture
from sklearn.exceptions import ConvergenceWarning

from deepad.baselines.arguments import (
    ScalingKind,
    require_in,
    require_one_of,
    require_scaling,
    require_seed,
    require_whole,
)
from deepad.baselines.base import Baseline, Rows, require_rows
from deepad.errors import InputError

RIDGE = 1e-6
"""Least variance of any direction, in squared standard deviations of a feature: directions in which training rows never
differ must not decide by rounding."""

MOST_PAIRS = 2**26
"""Most numbers that all covariances of a model may have: more would take memory and time out of proportion."""

CovarianceKind = Literal["full", "diagonal", "shrunk", "robust"]


class MultivariateGaussian(Baseline):
    """Squared Mahalanobis distance to the training rows, >= 0.

    Args:
        covariance: `"full"` (of all training rows), `"diagonal"` (variables independent), `"shrunk"` (full, drawn
            towards a multiple of the identity as far as the number of rows asks for) or `"robust"` (of the rows in the
            ellipse that should hold 97.5 % of them, as found from the half that lies closest together; costs some
            hundred times more).
        density: score with minus the logarithm of the density instead, in nats of standardised units: it ranks alike.
        seed: of the subsets that `"robust"` starts from.
    """

    fitted = {"mean": "D", "whiten": "positive D D"}
    scaling = "standard"
    expects = "what the other values tell"

    def __init__(self, covariance: CovarianceKind = "shrunk", density: bool = False, seed: int = 0) -> None:
        require_one_of(("full", "diagonal", "shrunk", "robust"), covariance=covariance)
        require_one_of((False, True), density=density)
        require_seed(seed)
        self.covariance, self.density, self.seed = covariance, density, seed

    def _fit(self, x: Rows) -> None:
        _require_room(x.shape[1], 1)
        self.mean_, spread = self._moments(x)
        # what never varies keeps the unit it has, whatever shrinking made of its variance
        constant = (np.ptp(x, axis=0) == 0) | (np.diag(spread) < RIDGE)
        spread = spread + np.diag(np.where(constant, 1 - np.diag(spread), RIDGE))
        self.whiten_ = solve_triangular(np.linalg.cholesky(spread), np.eye(len(spread)), lower=True)
        for own in self._parts_in_order():
            rows = self.whiten_[own]
            deviation = np.sqrt(np.square(np.linalg.inv(rows[:, own])).sum(1))  # of what the steps before leave
            left, _, right = np.linalg.svd(rows[:, own] * deviation)
            self.whiten_[own] = (left @ right).T @ rows

    def _parts_in_order(self) -> list[slice]:
        """The values of each step of a window; of other samples all values."""
        size = self.shape[-1] if len(self.shape) == 2 else math.prod(self.shape)
        return [slice(start, start + size) for start in range(0, math.prod(self.shape), size)]

    def _moments(self, x: Rows) -> tuple[Rows, Rows]:
        """Mean (D,) and covariance (D, D)."""
        if self.covariance == "diagonal":
            return x.mean(0), np.diag(x.var(0))
        if self.covariance == "robust":
            found = covariance.MinCovDet(random_state=self.seed)
            require_rows(x, 2 * x.shape[1], "a robust covariance of these features")
        else:
            found = {"full": covariance.EmpiricalCovariance, "shrunk": covariance.LedoitWolf}[self.covariance]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a covariance that is not of full rank, which the ridge mends
            found.fit(x)
        return found.location_, found.covariance_

    def _contributions(self, x: Rows) -> Rows:
        squares = np.square((x - self.mean_) @ self.whiten_.T)
        if not self.density:
            return np.asarray(squares)
        sizes = [np.linalg.slogdet(self.whiten_[own, own])[1] for own in self._parts_in_order()]
        return np.asarray(
            (squares + math.log(2 * math.pi)) / 2 - np.repeat(sizes, x.shape[1] // len(sizes)) * len(sizes) / x.shape[1]
        )

    def _expected(self, x: Rows) -> Rows:
        precision = self.whiten_.T @ self.whiten_
        return np.asarray(x - (x - self.mean_) @ precision / np.diag(precision))


class GaussianMixture(Baseline):
    """Minus the logarithm of the density of a mixture of Gaussians, in nats of scaled units.

    Args:
        n_components: number of Gaussians, >= 1; at most a tenth of the training rows is used.
        covariance: `"full"` or `"diagonal"`.
        regularization: added to the variances, in squared scaled units, > 0: a Gaussian must not collapse on a row.
        seed: of the first assignment.
        scaling: see `Baseline`.
    """

    def __init__(
        self,
        n_components: int = 8,
        covariance: Literal["full", "diagonal"] = "full",
        regularization: float = 1e-3,
        seed: int = 0,
        scaling: ScalingKind = "standard",
    ) -> None:
        require_whole(1, n_components=n_components)
        require_one_of(("full", "diagonal"), covariance=covariance)
        require_in("(0, inf)", regularization=regularization)
        require_seed(seed)
        require_scaling(scaling)
        shape = "positive K D D" if covariance == "full" else "positive K D"
        self.fitted = {"log_weights": "K", "means": "K D", "whiten": shape}
        self.n_components, self.covariance, self.regularization = n_components, covariance, regularization
        self.seed, self.scaling = seed, scaling

    def _fit(self, x: Rows) -> None:
        require_rows(x, 10, "a mixture of Gaussians")
        kind, parts = {"full": "full", "diagonal": "diag"}[self.covariance], min(self.n_components, len(x) // 10)
        if kind == "full":
            _require_room(x.shape[1], parts)
        found = mixture.GaussianMixture(
            parts, covariance_type=kind, reg_covar=self.regularization, random_state=self.seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the likelihood after 100 rounds is good enough
            found.fit(x)
        self.log_weights_, self.means_, self.whiten_ = np.log(found.weights_), found.means_, found.precisions_cholesky_

    def _score(self, x: Rows) -> Rows:
        diagonal = self.whiten_.ndim == 2
        densities = np.empty((len(x), len(self.means_)))
        for k, (mean, whiten) in enumerate(zip(self.means_, self.whiten_, strict=True)):
            z = (x - mean) * whiten if diagonal else (x - mean) @ whiten
            log_det = np.log(whiten if diagonal else np.diag(whiten)).sum()
            densities[:, k] = log_det - np.square(z).sum(1) / 2
        constant = x.shape[1] * math.log(2 * math.pi) / 2
        return np.asarray(constant - logsumexp(densities + self.log_weights_, axis=1))


def _require_room(size: int, matrices: int) -> None:
    """Raise `InputError` for samples of too many values for that many covariances of all of them."""
    if matrices * size**2 > MOST_PAIRS:
        most = math.isqrt(MOST_PAIRS // matrices)
        raise InputError(
            f"{matrices} covariance{'s' * (matrices > 1)} of all pairs of values: samples may have {most} values, got "
            f"{size}: choose features, or a model without covariances, such as PCAResidual"
        )
