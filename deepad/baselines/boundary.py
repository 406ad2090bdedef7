"""One-class support vector machine: a surface around the normal samples in the space of a kernel.

    score(x) = rho - sum_i a_i k(x_i, x),     k(x, y) = exp(-gamma ||x - y||^2)

At most a share `nu` of the training rows lies outside (score > 0), at least a share `nu` supports the surface.

Assumption: one width of kernel suits all of the data. The share outside is one of training rows and promises nothing
about new ones.

Cost: the exact machine takes time that grows with the square of the rows. With `method="nystroem"` the kernel is
approximated by its values at `n_components` training rows and the machine is linear in these.

Source: Schölkopf, Platt, Shawe-Taylor, Smola, Williamson, *Estimating the support of a high-dimensional distribution*,
2001, equation 3.10; Williams, Seeger, *Using the Nyström method to speed up kernel machines*, 2001.
"""

from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist
from sklearn import kernel_approximation, linear_model, svm

from deepad.baselines.arguments import (
    ScalingKind,
    require_in,
    require_one_of,
    require_scaling,
    require_seed,
    require_whole,
)
from deepad.baselines.base import Baseline, Rows

EXACT = 5_000
"""Most rows that `method="auto"` fits exactly."""


class OneClassSVM(Baseline):
    """How far outside the surface a sample is, in the unit of the kernel machine: negative inside.

    Args:
        nu: bound on the share of training rows outside, in (0, 1).
        gamma: of the kernel, > 0, in one over squared scaled units; if not given one over the number of features times
            their variance.
        method: `"exact"`, `"nystroem"`, or `"auto"`: exact for at most `EXACT` training rows.
        n_components: training rows that stand for the kernel in `"nystroem"`, >= 1.
        seed: of these and of the stochastic descent of `"nystroem"`.
        scaling: see `Baseline`.
    """

    fitted = {"points": "N D", "weights": "N", "rho": "1", "width": "positive 1"}

    def __init__(
        self,
        nu: float = 0.5,
        gamma: float | None = None,
        method: Literal["auto", "exact", "nystroem"] = "auto",
        n_components: int = 300,
        seed: int = 0,
        scaling: ScalingKind = "standard",
    ) -> None:
        require_one_of(("auto", "exact", "nystroem"), method=method)
        require_whole(1, n_components=n_components)
        require_in("(0, 1)", nu=nu)
        if gamma is not None:
            require_in("(0, inf)", gamma=gamma)
        require_seed(seed)
        require_scaling(scaling)
        self.nu, self.gamma, self.method, self.n_components = nu, gamma, method, n_components
        self.seed, self.scaling = seed, scaling

    def _fit(self, x: Rows) -> None:
        gamma = self.gamma or 1 / (x.shape[1] * (x.var() or 1.0))
        self.width_ = np.array([gamma])
        if self.method == "exact" or (self.method == "auto" and len(x) <= EXACT):
            machine = svm.OneClassSVM(nu=self.nu, gamma=gamma)
            machine.random_state = self.seed  # no argument of its own: libsvm would be seeded from NumPy's global state
            machine.fit(x)
            self.points_, self.weights_ = machine.support_vectors_, machine.dual_coef_[0]
            self.rho_ = -machine.intercept_
            return
        count = min(self.n_components, len(x))
        kernel = kernel_approximation.Nystroem(gamma=gamma, n_components=count, random_state=self.seed).fit(x)
        before = np.random.get_state()  # noqa: NPY002 # of which scikit-learn draws one number that it makes no use of
        try:
            line = linear_model.SGDOneClassSVM(nu=self.nu, random_state=self.seed).fit(kernel.transform(x))
        finally:
            np.random.set_state(before)  # noqa: NPY002
        self.points_, self.weights_ = kernel.components_, kernel.normalization_.T @ line.coef_
        self.rho_ = line.offset_

    def _score(self, x: Rows) -> Rows:
        with np.errstate(under="ignore"):
            kernel = np.exp(-self.width_ * cdist(x, self.points_, "sqeuclidean"))
        return np.asarray(self.rho_ - kernel @ self.weights_)
