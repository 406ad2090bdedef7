"""Cross-calibration (CV+): every row trains and every row calibrates, at the price of K models and half the promise.

The n normal rows are cut into K folds. Model f is trained without fold f and scores it: S_i for i in fold f. A new
sample has K scores s^(1)..s^(K), and is compared in each fold with the scores that the same model gave:

    p = (1 + sum_f #{i in fold f : S_i >= s^(f)}) / (n + 1),     P(p <= k/(n+1)) <= 2 (k + K - 1)/(n + K).

With a = k/(n+1) the bound is 2 a + 2 (1 - a)(K - 1)/(n + K); usually the rate is near a. The reason: each fold alone
gives a valid p-value P_f = (1 + #{...})/(n_f + 1), their mean with weights (n_f + 1)/(n + K) is
(p (n + 1) + K - 1)/(n + K), and twice a mean of valid p-values is valid. It holds for folds of any sizes.

Use it where there are too few normal rows to spare a calibration split. It needs exchangeable rows (no series, no
repeated rows in different folds) and a training that does not depend on their order. Serving needs all K models, so
memory and time are K times those of one model. Where there are thousands of rows, a split is simpler and promises more.

Source: Vovk, *Cross-conformal predictors*, 2015; Vovk & Wang, *Combining p-values via averaging*, 2020; Barber, Candès,
Ramdas, Tibshirani, *Predictive inference with the jackknife+*, 2021; the bound as in Gasparin & Ramdas, *Improving the
statistical efficiency of cross-conformal prediction*, 2025.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepad.errors import InsufficientCalibrationError
from deepad.scoring.conformal import TIE_RTOL, Calibration, Scores
from deepad.scoring.ensemble import as_columns
from deepad.scoring.guarantee import ASSUMPTIONS, Guarantee, GuaranteeKind, check_level
from deepad.scoring.promise import guaranteed_rank

Model = TypeVar("Model")


@dataclass(frozen=True, eq=False)
class CrossCalibration:
    """The scores of each fold by the model that did not train on it; made by `fit` or `from_models`.

    Attributes:
        folds: one calibration a fold, in the order of the models.
    """

    folds: tuple[Calibration, ...]

    @classmethod
    def fit(cls, fold_scores: Sequence[ArrayLike], *, tie_rtol: float = TIE_RTOL) -> "CrossCalibration":
        """Keep the scores (n_f,) of each fold by the model that was trained without it.

        Raises:
            NonFiniteScoreError: a score is NaN or infinite.
            ValueError: fewer than two folds, or an empty one.
        """
        if len(fold_scores) < 2:
            raise ValueError(f"cross-calibration needs at least 2 folds, got {len(fold_scores)}")
        return cls(tuple(Calibration.fit(scores, tie_rtol=tie_rtol) for scores in fold_scores))

    @classmethod
    def from_models(
        cls,
        fit: Callable[[NDArray[Any]], Model],
        score: Callable[[Model, NDArray[Any]], ArrayLike],
        x: NDArray[Any],
        *,
        seed: int,
        folds: int = 5,
        tie_rtol: float = TIE_RTOL,
    ) -> tuple[list[Model], "CrossCalibration"]:
        """Train K models on all folds but one, and calibrate each on the one it has not seen.

        Args:
            fit: trains a model on rows (n', ...); it must not look at their order, and see no other rows.
            score: scores (m,) of rows (m, ...) by a model.
            x: normal rows (n, ...).
            seed: draws the folds.
            folds: their number K, from 2 to n.
            tie_rtol: relative tolerance of ties, see `deepad.scoring.conformal`.

        Returns:
            The models in the order of the folds, and their calibration. The scores (N, K) of new rows are
            `np.stack([score(model, x) for model in models], axis=1)`.

        Raises:
            ValueError: fewer than 2 or more than n folds.
        """
        if not 2 <= folds <= len(x):
            raise ValueError(f"folds must lie in 2..{len(x)}, the number of rows, got {folds}")
        fold_of = np.random.default_rng(seed).permutation(len(x)) % folds
        models = [fit(x[fold_of != f]) for f in range(folds)]
        scored = [score(model, x[fold_of == f]) for f, model in enumerate(models)]
        return models, cls.fit(scored, tie_rtol=tie_rtol)

    @property
    def n(self) -> int:
        """Number of calibration scores, all folds together."""
        return sum(fold.n for fold in self.folds)

    def ranks(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Ranks (N,) in 1..n+1 of scores (N, K), a column for each model; 0 where a score is NaN."""
        columns = as_columns(scores, len(self.folds))
        ranks = np.stack([fold.ranks(columns[:, f]) for f, fold in enumerate(self.folds)], axis=1)
        return np.where((ranks == 0).any(axis=1), 0, 1 + (ranks - 1).sum(axis=1)).astype(np.int64)

    def p_values(self, scores: ArrayLike) -> Scores:
        """Cross-conformal p-values (N,) in [1/(n+1), 1] of scores (N, K); NaN where a score is NaN.

        They are not quite valid: P(p <= alpha) may reach the bound that `guarantee(alpha)` attains.
        """
        ranks = self.ranks(scores)
        return np.where(ranks == 0, np.nan, ranks / (self.n + 1))

    def flag(self, scores: ArrayLike, alpha: float) -> NDArray[np.bool_]:
        """True (N,) where the p-value of scores (N, K) is at most `alpha`. A NaN score is never normal: it is flagged.

        Raises:
            InsufficientCalibrationError: no p-value of n scores is as small as `alpha`.
            ValueError: `alpha` outside (0, 1), or another number of columns.
        """
        k, _ = guaranteed_rank(alpha, self.n)
        return np.asarray(self.ranks(scores) <= k)

    def guarantee(self, alpha: float) -> Guarantee:
        """What flagging at `alpha` promises: attained is the bound, above alpha; 1 where it says nothing.

        Raises:
            InsufficientCalibrationError: no p-value of n scores is as small as `alpha`.
            ValueError: `alpha` outside (0, 1).
        """
        k, _ = guaranteed_rank(alpha, self.n)
        attained = min(1.0, self._bound(k))
        return Guarantee(GuaranteeKind.CROSS, alpha, attained, self.n, k, None, ASSUMPTIONS["cross"])

    def guaranteed_level(self, wanted: float) -> float:
        """The largest alpha, below `wanted`, whose bound on the false-alarm rate is at most `wanted`.

        Raises:
            InsufficientCalibrationError: the bound exceeds `wanted` at every alpha.
            ValueError: `wanted` outside (0, 1).
        """
        n, folds = self.n, len(self.folds)
        wanted = check_level("wanted", wanted)
        k = int((self._bound(np.arange(1, n + 1)) <= wanted).sum())
        if k == 0:
            needed = math.ceil(2 * folds / wanted) - folds
            ways = (f"at least {needed} rows", "fewer folds", f"a level of {2 * folds / (n + folds):.4g} or more")
            raise InsufficientCalibrationError(
                f"with {n} rows in {folds} folds no level keeps the false-alarm rate below {wanted:g} for sure: use "
                f"{', or '.join(ways)}",
                n=n,
                needed=needed,
                options=ways,
            )
        return k / (n + 1)

    def _bound(self, k: Any) -> Any:
        """Bound on P(rank <= k), which may exceed 1."""
        folds = len(self.folds)
        return 2 * (k + folds - 1) / (self.n + folds)
