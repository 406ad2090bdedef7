"""A detector as a scikit-learn estimator, for pipelines and grid search.

This is the only place where scikit-learn's signs are spoken: +1 normal and -1 anomaly, and a *lower* score or
decision value for what is more anomalous.
"""

import tempfile
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from deepad.data.base import DataModule, Rows, Splits, deal
from deepad.quiet import quiet_lightning
from deepad.rooms import members
from deepad.scoring.conformal import Scores, lower_for_ties
from deepad.scoring.promise import guaranteed_rank
from deepad.scoring.scorer import Scorer


class AnomalyDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """A deep detector with a calibrated false-alarm rate behind scikit-learn's interface.

    `fit` takes normal samples (n_samples, n_features) only and deals them into rows that train, rows that stop the
    training and rows that calibrate. There is no `contamination`: how common anomalies are (prevalence) and how often
    a normal sample may be flagged (`alpha`) are different questions, and only the second can be answered from normal
    data.

    Args:
        detector: name of a member of `deepad.detectors`.
        arguments: its constructor arguments but for `shape`.
        alpha: false-alarm rate, in (0, 1).
        kind: `"marginal"` or `"pac"`, see `deepad.scoring.guarantee`.
        delta: for `"pac"`, the allowed probability of an unlucky calibration draw.
        val_size: share or number of the rows that stop the training.
        calibration_size: share or number of the rows that calibrate.
        max_epochs: of training.
        batch_size: rows a batch.
        random_state: seed of splits, weights and order.

    Attributes:
        scorer_: the fitted `deepad.Scorer`.
        offset_: `decision_function` is `score_samples` less this.
        n_features_in_: number of features.
    """

    def __init__(
        self,
        detector: str = "DenseAutoencoder",
        *,
        arguments: dict[str, Any] | None = None,
        alpha: float = 0.05,
        kind: str = "marginal",
        delta: float | None = None,
        val_size: int | float = 0.1,
        calibration_size: int | float = 0.3,
        max_epochs: int = 50,
        batch_size: int = 64,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.arguments = arguments
        self.alpha = alpha
        self.kind = kind
        self.delta = delta
        self.val_size = val_size
        self.calibration_size = calibration_size
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: None = None) -> Self:
        """Train and calibrate on normal samples (n_samples, n_features).

        y is ignored, so a splitter that puts anomalies into X has them trained on: fit on normal rows.

        Raises:
            ValueError: an unknown detector, values that are not finite, or too few rows for `alpha`.
        """
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=4)
        known = members("detectors", "Detector")
        if self.detector not in known:
            raise ValueError(f"detector must be one of {', '.join(known)}, got {self.detector!r}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = _Table(x, self.val_size, self.calibration_size, self.batch_size, seed)
        guaranteed_rank(self.alpha, len(data.splits.calibration), kind=self.kind, delta=self.delta)
        from pytorch_lightning import Trainer  # after deepad.data has checked that it can be imported

        with quiet_lightning(), torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(seed)
            try:
                detector = known[self.detector](data.shape, **(self.arguments or {}))
            except TypeError as error:
                raise ValueError(f"arguments do not fit {self.detector}: {error}") from None
            trainer = Trainer(
                devices=1,
                max_epochs=self.max_epochs,
                default_root_dir=folder,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(detector, data)
        self.scorer_ = Scorer.calibrate(
            detector, data.calibration_dataloader(), alpha=self.alpha, kind=self.kind, delta=self.delta
        )
        threshold: Any = self.scorer_.threshold
        self.offset_ = -float(threshold.value)
        self.n_iter_ = trainer.current_epoch
        return self

    def score_samples(self, X: ArrayLike) -> Scores:
        """Negated anomaly scores (n_samples,) less the tie tolerance: lower is more anomalous."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        threshold: Any = self.scorer_.threshold  # one: the adapter knows no groups
        return -lower_for_ties(self.scorer_(x).score, threshold.tie_rtol, threshold.scale)

    def decision_function(self, X: ArrayLike) -> Scores:
        """Distance (n_samples,) below the threshold, in the unit of the score: negative for what is flagged."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """+1 for normal, -1 for flagged samples, (n_samples,); a sample without a score is flagged."""
        return np.where(self.decision_function(X) >= 0, 1, -1)


class _Table(DataModule):
    """Rows of one normal table; the test split, which fitting never asks for, stands on the calibration rows."""

    def __init__(
        self, x: NDArray[np.float64], val: int | float, calibration: int | float, batch: int, seed: int
    ) -> None:
        super().__init__(val_size=val, calibration_size=calibration, batch_size=batch, seed=seed)
        self.x = torch.from_numpy(np.array(x))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    def load(self) -> Splits:
        val, calibration, train = deal(np.arange(len(self.x)), [self.val_size, self.calibration_size], self.seed)
        held = Rows(self.x, calibration)
        return Splits(Rows(self.x, train), Rows(self.x, val), held, held)
