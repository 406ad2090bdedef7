"""What is done with the four splits, in a run and in every cell of a comparison alike.

    train, val -> model        calibration -> scorer        test -> verdict and labels

The floors stand beside every model unasked: chance, the distance to the mean, principal components, nearest neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepad.baselines.base import Baseline
from deepad.data.base import DataModule, Rows
from deepad.data.windows import StepRule
from deepad.errors import InputError
from deepad.scoring.blocks import Model
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict

FLOORS = {
    "random": "RandomScore",
    "mean distance": "MeanDistance",
    "PCA": "PCAResidual",
    "k-NN": "KNearestNeighbors",
}
"""Classes of the floors by the name they have in tables; each with its defaults."""


@dataclass(frozen=True, eq=False)
class Tested:
    """The verdict on a test split.

    Attributes:
        verdict: on its samples, or on the steps of a series.
        y: labels (N,), 1 = anomaly.
        source: (N,) where each is from: the name of the recording, or `"test"`.
        index: (N,) which row of it.
        lengths: number of steps of each unbroken stretch of a series; one for samples.
    """

    verdict: Verdict
    y: NDArray[np.int64]
    source: list[str]
    index: NDArray[np.int64]
    lengths: list[int]


def samples(rows: Rows, most: int | None = None, seed: int = 0) -> NDArray[Any]:
    """The samples (n, *shape) of a split, or a random sample of them, in their order."""
    index = rows.index
    if most is not None and len(index) > most:
        chosen = np.random.default_rng(seed).permutation(len(index))[:most]
        index = index[torch.from_numpy(np.sort(chosen))]
    found: NDArray[Any] = rows.x[index].numpy()
    return found


def fit(baseline: Baseline, data: DataModule, *, most: int | None = None) -> Baseline:
    """Fit a baseline on the training split.

    Args:
        baseline: is fitted.
        data: its four splits.
        most: rows that it is fitted on, a random sample if there are more.
    """
    baseline.fit(samples(data.splits.train, most, data.seed))
    baseline.fit_rows = data.fit_fingerprints()  # of what was left out too: it is no row to calibrate on
    baseline.inputs = None if data.schema is None else data.schema.to_dict()
    return baseline


def calibrate(model: Model, data: DataModule, *, rule: str | None = None, **decision: Any) -> Scorer:
    """Calibrate a model on the calibration split.

    Args:
        model: fitted.
        data: its four splits.
        rule: how the steps of a series are scored, `"last"` if not given; see `deepad.data.windows`.
        decision: `alpha`, `kind` and `delta`, as `Scorer.calibrate` takes them.

    Raises:
        InputError: a rule for samples that are no steps.
    """
    if data.sequential:
        steps = StepRule(data.shape[0], rule or "last")  # type: ignore[arg-type] # the rule checks itself
        return Scorer.calibrate(model, data.stretches("calibration"), steps=steps, **decision)
    if rule is not None:
        raise InputError(f"rule={rule!r} is for the steps of a series, {data.title} has none: leave it out")
    return Scorer.calibrate(model, data.calibration_dataloader(), **decision)


def judge(scorer: Scorer, data: DataModule, split: str = "test") -> Tested:
    """Judge the test split; of a series another one may be asked for, see `Series.stretches`."""
    if not data.sequential:
        y = data.test_labels()
        return Tested(scorer(data.test_dataloader()), y, ["test"] * len(y), np.arange(len(y)), [len(y)])
    stretches = data.stretches(split)
    verdict = scorer([part.values for part in stretches])[np.concatenate([part.scored for part in stretches])]
    lengths = [len(part.y) for part in stretches]
    source = [part.source for part in stretches for _ in range(len(part.y))]
    index = np.concatenate([part.first + np.arange(len(part.y)) for part in stretches])
    return Tested(verdict, np.concatenate([part.y for part in stretches]), source, index, lengths)
