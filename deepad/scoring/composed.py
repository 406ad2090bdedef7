"""Models made of models: a density of deep features, and several models as one.

    Hybrid     score(x) = baseline(features(x)),  features(x) = latent code and residual summary of a detector
    Ensemble   score(x) = one rule over the scores of all members, see `deepad.scoring.ensemble`

Both are baselines: fitted on normal samples, saved without pickle, calibrated as one model. An ensemble is fitted on
normal samples that trained none of its members (the validation split), where it learns the scale of each. A detector
chose its epoch there, so its scale comes out a little small beside that of a classical member; the calibration, on
other rows, holds all the same.

Source: Erfani, Rajasegarar, Karunasekera, Leckie, *High-dimensional and large-scale anomaly detection using a linear
one-class SVM with deep learning*, 2016 (a density on learned features).
"""

import re
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any, Self

import numpy as np

from deepad.baselines.base import Array, Baseline, Rows
from deepad.detectors.base import Detector, require_fitted
from deepad.errors import NotFittedError
from deepad.fingerprint import united
from deepad.scoring.blocks import Model, blockwise, detect, scaled_of_block, score_block
from deepad.scoring.ensemble import ScoreEnsemble, Transform

NAME = re.compile(r"\w[\w +()=-]{0,63}")


class Composed(Baseline):
    """A baseline that is made of other models.

    Attributes:
        parts: the models by name.
    """

    fitted = {}

    def __init__(self, parts: Mapping[str, Model], shape: tuple[int, ...]) -> None:
        for part in parts.values():
            if isinstance(part, Detector):
                require_fitted(part)
        self.parts, self.shape = dict(sorted(parts.items())), shape  # in the order of a manifest
        self.inputs = next((part.inputs for part in parts.values() if part.inputs is not None), None)

    def fit(self, x: Array) -> Self:
        """Learn from normal samples (N, *shape); the rows that fitted its parts count as rows of this model."""
        if np.shape(x)[1:] != self.shape:
            raise ValueError(f"the parts take samples of shape {self.shape}, got {np.shape(x)[1:]}")
        super().fit(x)
        for part in self.parts.values():
            if self.fit_rows is not None and part.fit_rows is not None:
                self.fit_rows = united(self.fit_rows, part.fit_rows)
        return self

    @property
    def params(self) -> dict[str, Any]:
        """What was chosen beside the parts, as plain values."""
        return {}

    def state_arrays(self) -> dict[str, Array]:
        """The arrays of the parts, under the name of the part and a dot."""
        self._require_fitted()
        arrays = {name: part.state_arrays() for name, part in self.parts.items()}
        return {f"{name}.{key}": array for name, held in arrays.items() for key, array in held.items()}

    @property
    def comparing(self) -> Model:
        """The part in whose units samples are compared."""
        return next(iter(self.parts.values()))

    def scaled(self, x: Array) -> Rows:
        """Samples as rows in the units of the part that compares them."""
        return blockwise(partial(scaled_of_block, self.comparing), x)

    @classmethod
    @abstractmethod
    def of_parts(cls, parts: Mapping[str, Model], params: dict[str, Any], arrays: Mapping[str, Array]) -> Self:
        """Rebuild from fitted parts, `params` and the arrays that belong to no part.

        Raises:
            ValueError: parts, params or arrays that do not belong to this class.
        """


class Hybrid(Composed):
    """A classical density of the features of a trained detector.

    Args:
        detector: trained.
        baseline: fitted by `fit`, on the features of the samples; in the unit of its score.
    """

    def __init__(self, detector: Detector, baseline: Baseline) -> None:
        super().__init__({"detector": detector, "baseline": baseline}, detector.shape)
        self.detector, self.baseline = detector, baseline

    def _fit(self, x: Rows) -> None:
        self.baseline.fit(blockwise(self._features, x))
        self.baseline.fit_rows = None  # of features, which are no samples

    @property
    def comparing(self) -> Model:
        """The detector, which takes samples."""
        return self.detector

    def _features(self, x: Rows) -> Rows:
        features = detect(self.detector, x.reshape(-1, *self.shape), self.detector.features)
        return np.nan_to_num(features, nan=np.finfo(np.float64).max)  # of a sample that overflows: far away

    def _score(self, x: Rows) -> Rows:
        return self.baseline.score(self._features(x))

    def _require_fitted(self) -> None:
        self.baseline._require_fitted()

    @classmethod
    def of_parts(cls, parts: Mapping[str, Model], params: dict[str, Any], arrays: Mapping[str, Array]) -> Self:
        """A hybrid of a trained detector and a fitted baseline."""
        if parts.keys() != {"detector", "baseline"} or params or arrays:
            raise ValueError("a hybrid has a detector and a baseline, and nothing else")
        detector, baseline = parts["detector"], parts["baseline"]
        if not isinstance(detector, Detector) or not isinstance(baseline, Baseline):
            raise ValueError("a hybrid has a detector and a baseline")
        hybrid = cls(detector, baseline)
        if hybrid._features(np.zeros((1, prod(hybrid.shape)))).shape[1:] != baseline.shape:
            raise ValueError("the baseline takes other features than the detector gives")
        return hybrid


class Ensemble(Composed):
    """Several fitted models, deep or classical, as one.

    Args:
        members: fitted models for samples of one shape, by name.
        weights: by name, > 0, in any unit; equal if not given.
        transform: `"loglik"` (weighted mean of heights) or `"vote"` (weighted share of votes), see
            `deepad.scoring.ensemble`.
        level: for `"vote"`, the share of its validation scores that a member's score must be above, in (0, 1).
    """

    rule: ScoreEnsemble

    def __init__(
        self,
        members: Mapping[str, Model],
        *,
        weights: Mapping[str, float] | None = None,
        transform: Transform = "loglik",
        level: float | None = None,
    ) -> None:
        if not members or any(not NAME.fullmatch(name) for name in members):
            raise ValueError(f"an ensemble takes members by names of letters and digits, got {list(members)}")
        for model in members.values():
            if isinstance(model, Baseline):
                model._require_fitted()
        if len(shapes := {model.shape for model in members.values()}) > 1:
            raise ValueError(f"the members of an ensemble take samples of one shape, got {sorted(shapes)}")
        if weights is not None and weights.keys() != members.keys():
            raise ValueError(f"give a weight for each of {', '.join(members)}, got {', '.join(weights)}")
        super().__init__(members, shapes.pop())
        self.weights = None if weights is None else dict(weights)
        self.transform, self.level = transform, level

    def _fit(self, x: Rows) -> None:
        weights = None if self.weights is None else [self.weights[name] for name in self.parts]
        self.rule = ScoreEnsemble.fit(
            blockwise(self._scores, x), weights=weights, transform=self.transform, level=self.level
        )

    def _scores(self, x: Rows) -> Rows:
        samples = x.reshape(-1, *self.shape)
        return np.stack([score_block(model, samples) for model in self.parts.values()], 1)

    def _score(self, x: Rows) -> Rows:
        return self.rule(self._scores(x))

    def _require_fitted(self) -> None:
        if not hasattr(self, "rule"):
            raise NotFittedError("this ensemble has not been fitted: call fit with normal samples new to its members")

    @property
    def params(self) -> dict[str, Any]:
        """How the members are combined."""
        return {"transform": self.transform, "level": self.level}

    def state_arrays(self) -> dict[str, Array]:
        """The arrays of the members, and the validation scores and weights of the rule."""
        return {**super().state_arrays(), **self.rule.to_state()[1]}

    @classmethod
    def of_parts(cls, parts: Mapping[str, Model], params: dict[str, Any], arrays: Mapping[str, Array]) -> Self:
        """An ensemble of fitted members."""
        rule = ScoreEnsemble.from_state(params, arrays)
        if rule.members != len(parts):
            raise ValueError(f"{len(parts)} members, and the rule for {rule.members}")
        weights = dict(zip(parts, rule.weights.tolist(), strict=True))
        ensemble = cls(parts, weights=weights, **params)
        ensemble.rule = rule
        return ensemble
