"""The run folder: what a training leaves behind.

| file            | holds                                                                              |
|-----------------|------------------------------------------------------------------------------------|
| `config.yaml`   | the resolved configuration; `deepad fit --config` repeats the run with it           |
| `training/`     | loss by epoch (`metrics.csv`); a resumed training goes on in `training-1/`          |
| `checkpoints/`  | Lightning checkpoints `best.ckpt` and `last.ckpt`, to resume on this machine        |
| `scorer/`       | the artifact: all that scoring needs, and all that should be passed on             |
| `metrics.json`  | what was trained on what, the promise, whether test kept it, the floor, versions    |
| `scores.parquet`| one row a test sample                                                              |
| `report.html`   | the page a person reads                                                            |
"""

import json
import platform
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.atomic import replacing
from deepad.baselines.pca import PCAResidual
from deepad.data.base import DataModule
from deepad.detectors.base import Detector, plain_values
from deepad.errors import InputError
from deepad.evaluation.metrics import evaluate
from deepad.report import pages
from deepad.scoring.records import as_table, open_table
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict

FLOOR_ROWS, FLOOR_VALUES = 50_000, 40_000_000
"""Most rows, and most values in them, that a classical model is fitted on."""
PACKAGES = ("deepad", "torch", "pytorch-lightning", "numpy", "scikit-learn", "safetensors")


def finish(
    detector: Detector,
    data: DataModule,
    folder: Path,
    *,
    alpha: float,
    kind: str | None = None,
    delta: float | None = None,
    rule: str | None = None,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Calibrate a trained detector, judge the test split and write the run folder.

    Args:
        detector: trained on `data`.
        data: its four splits.
        folder: where to write; the logs of the training are read from there, if there are any.
        alpha: false-alarm rate, in (0, 1).
        kind: guarantee; if not given, `"marginal"`, for a series `"none"`.
        delta: for `"pac"`.
        rule: how the steps of a series are scored, `"last"` if not given; see `deepad.data.windows`.
        training: plain values about the training, kept in `metrics.json`.

    Returns:
        What `metrics.json` holds.
    """
    if rule is not None and not data.sequential:
        raise InputError(f"rule={rule!r} is for the steps of a series, {data.title} has none: leave it out")
    decision: dict[str, Any] = {"alpha": alpha, "kind": kind, "delta": delta}
    if data.sequential:
        decision["steps"] = rule or "last"
    scorer = Scorer.calibrate(detector, _calibration(data), **decision)
    verdict, y, where = _test(scorer, data)
    floor = _floor(data, decision)
    metrics: dict[str, Any] = {
        "model": type(detector).__name__,
        "id": scorer.id,
        "arguments": plain_values(detector.hparams),
        "data": data.describe(),
        "guarantee": {**verdict.guarantee.to_dict(), "text": str(verdict.guarantee)},
        "test": evaluate(verdict, y),
        "floors": {name: evaluate(judged, y) for name, judged in floor.items()},
        "training": training or {},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    scorer.save(folder / "scorer")
    with open_table(folder / "scores.parquet") as writer:
        writer.write(as_table(verdict, *where, metrics["id"][:12], y=y))
    page = pages.page(metrics, detector, data, verdict, y, folder)
    for name, text in (("report.html", page), ("metrics.json", json.dumps(metrics, indent=1) + "\n")):
        with replacing(folder / name) as file:  # metrics.json comes last: where it is, the run is complete
            file.write(text.encode())
    return metrics


def _calibration(data: DataModule) -> Any:
    """What a scorer is calibrated on: rows, or the steps of a series with their context."""
    return data.stretches("calibration") if data.sequential else data.calibration_dataloader()


def _test(scorer: Scorer, data: DataModule) -> tuple[Verdict, NDArray[np.int64], tuple[list[str], NDArray[np.int64]]]:
    """The verdict on the test split, its labels, and which file and row each entry is."""
    if not data.sequential:
        y = data.test_labels()
        return scorer(data.test_dataloader()), y, (["test"] * len(y), np.arange(len(y)))
    stretches = data.stretches("test")
    verdict = scorer([s.values for s in stretches])[np.concatenate([s.scored for s in stretches])]
    source = [s.source for s in stretches for _ in range(len(s.y))]
    index = np.concatenate([s.first + np.arange(len(s.y)) for s in stretches])
    return verdict, np.concatenate([s.y for s in stretches]), (source, index)


def _floor(data: DataModule, decision: dict[str, Any]) -> dict[str, Verdict]:
    """The classical verdicts that stand beside the deep one, on the same calibration rows and with the same promise."""
    rows, most = data.splits.train, min(FLOOR_ROWS, FLOOR_VALUES // prod(data.shape))
    chosen = np.random.default_rng(data.seed).permutation(len(rows))[: max(most, 2)]
    baseline = PCAResidual().fit(rows.x[rows.index[np.sort(chosen)]].numpy())
    return {"PCAResidual": _test(Scorer.calibrate(baseline, _calibration(data), **decision), data)[0]}
