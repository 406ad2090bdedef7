"""The run folder: what a training leaves behind.

| file            | holds                                                                              |
|-----------------|------------------------------------------------------------------------------------|
| `config.yaml`   | the resolved configuration; `deepad fit --config` repeats the run with it           |
| `training/`     | loss by epoch (`metrics.csv`); a resumed training goes on in `training-1/`          |
| `checkpoints/`  | Lightning checkpoints `best.ckpt` and `last.ckpt`, to resume on this machine        |
| `scorer/`       | the artifact: all that scoring needs, with up to 256 calibration samples            |
| `metrics.json`  | what was trained on what, the promise, whether test kept it, the floor, versions    |
| `scores.parquet`| one row a test sample                                                              |
| `exhibits/`     | what of the test split the page shows and only the model can tell                  |
| `report.html`   | the page a person reads; `deepad report` makes it again from the other files        |
"""

import json
import platform
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from deepad import exhibits, protocol
from deepad.atomic import replacing
from deepad.channels import SeriesSchema
from deepad.clock import UNITS
from deepad.data.base import DataModule
from deepad.detectors.base import Detector, plain_values
from deepad.errors import DeepadError, InputError
from deepad.evaluation.bootstrap import intervals
from deepad.evaluation.metrics import evaluate
from deepad.report import pages
from deepad.report.sections import Judged
from deepad.rooms import members
from deepad.schema import TableSchema
from deepad.scoring.budget import Budget
from deepad.scoring.conformal import Calibration
from deepad.scoring.heldout import REFERENCE
from deepad.scoring.records import as_table, open_table
from deepad.scoring.scorer import Scorer
from deepad.scoring.verdict import Verdict

FLOOR_ROWS, FLOOR_VALUES = 50_000, 20_000_000
"""Most rows, and most numbers, that a classical model is fitted on."""
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
    reference: int = REFERENCE,
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
        reference: most calibration samples that the scorer keeps to explain with.
        training: plain values about the training, kept in `metrics.json`.

    Returns:
        What `metrics.json` holds.
    """
    decision: dict[str, Any] = {"alpha": alpha, "kind": kind, "delta": delta, "rule": rule}
    scorer = protocol.calibrate(detector, data, **decision, reference=reference)
    tested = protocol.judge(scorer, data)
    verdict, y = tested.verdict, tested.y
    scorer.save(folder / "scorer")
    metrics: dict[str, Any] = {
        "model": type(detector).__name__,
        "id": scorer.id,
        "arguments": plain_values(detector.hparams),
        "data": data.describe(),
        "guarantee": {**verdict.guarantee.to_dict(), "text": str(verdict.guarantee)},
        "test": _measured(verdict, y, data),
        "floors": {name: _floor(tag, data, decision) for name, tag in protocol.FLOORS.items()},
        "training": training or {},
        "versions": versions(),
    }
    with open_table(folder / "scores.parquet") as writer:
        writer.write(as_table(verdict, tested.source, tested.index, metrics["id"][:12], y=y))
    if data.sequential:
        shown = exhibits.of_steps(scorer, data.stretches("test"), tested)
    else:
        shown = exhibits.of_samples(scorer, lambda rows: _samples(data, rows), verdict, y)
    exhibits.write(folder, shown)
    _write(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")  # the run is complete; the page can be remade
    _write(folder / "report.html", _page(folder, metrics, scorer, verdict, y, tested.source, shown))
    return metrics


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def report(folder: Path, *, explore: bool = False) -> str:
    """The HTML text of a run's page, or of one to look around in, from what its folder holds.

    Raises:
        IncompatibleInstallError: a page to look around in without Bokeh.
        InputError: no finished run.
        ArtifactError: its scorer or its exhibits cannot be read.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        table = pyarrow.parquet.read_table(folder / "scores.parquet")
        y, source = table["y"].to_numpy(), table["source"].to_pylist()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder} holds no finished run of this version (metrics.json, scores.parquet): {error}"
        ) from None
    scorer = Scorer.load(folder / "scorer")
    groups = table["group"].to_numpy(zero_copy_only=False) if "group" in table.column_names else None
    verdict = scorer.judge(table["score"].to_numpy(), groups=groups)
    shown = exhibits.read(folder)
    try:
        if not explore:
            return _page(folder, metrics, scorer, verdict, y, source, shown)
        from deepad.report.explore import explore_page  # Bokeh takes a second: only who asks pays

        title = f"{metrics['model']} on {metrics['data']['title']}"
        return explore_page(title, judged_by(scorer, verdict, y), shown, names_of(scorer), _source(source, shown))
    except DeepadError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder} holds files that do not belong together, fit again: {error!r}") from None


def judged_by(scorer: Scorer, verdict: Verdict, y: NDArray[Any] | None) -> Judged:
    """What a page is about."""
    scores = scorer.calibration.scores if isinstance(scorer.calibration, Calibration) else None
    volume = ((scorer.provenance or {}).get("asked") or {}).get("volume")
    per_day = None if volume is None else Budget.parse(volume, name="volume").per(UNITS["day"])
    return Judged(verdict, y, scores, scorer.steps is not None, per_day)


def _page(
    folder: Path,
    metrics: dict[str, Any],
    scorer: Scorer,
    verdict: Verdict,
    y: NDArray[Any],
    source: list[str],
    shown: dict[str, NDArray[Any]],
) -> str:
    return pages.run_page(
        metrics,
        judged_by(scorer, verdict, y),
        shown,
        folder,
        names=names_of(scorer),
        source=_source(source, shown),
        score=lambda points: scorer(points).score,
    )


def names_of(scorer: Scorer) -> tuple[str, ...]:
    """Names of the channels of a series, or of the features of a table, if they are known."""
    if isinstance(scorer.inputs, TableSchema):
        return scorer.inputs.features
    return tuple(scorer.inputs.channels) if isinstance(scorer.inputs, SeriesSchema) else ()


def _source(source: list[str], shown: dict[str, NDArray[Any]]) -> str:
    """The recording that the exhibits are of; empty if they are of none."""
    rows = shown.get("series_rows")
    return "" if rows is None else source[int(rows[0])]


def _floor(tag: str, data: DataModule, decision: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a classical model, or the `error` with which it failed: the training is not lost for that."""
    most = max(2, min(FLOOR_ROWS, FLOOR_VALUES // prod(data.shape)))
    try:
        model = protocol.fit(members("baselines", "Baseline")[tag](), data, most=most)
        tested = protocol.judge(protocol.calibrate(model, data, **decision), data)
        return _measured(tested.verdict, tested.y, data)
    except (DeepadError, ValueError, MemoryError, np.linalg.LinAlgError) as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}


def _measured(verdict: Verdict, y: NDArray[Any], data: DataModule) -> dict[str, Any]:
    """Metrics, with 95 % bootstrap intervals of the ranking of independent samples of both classes."""
    found = {} if data.sequential else intervals(y, verdict.score)
    ranges = {name: [around.low, around.high] for name, around in found.items()}
    return {**evaluate(verdict, y), "intervals": ranges or None}


def _samples(data: DataModule, rows: NDArray[Any]) -> NDArray[Any]:
    """Test samples (K, *shape) at some positions."""
    test = data.splits.test
    found: NDArray[Any] = test.x[test.index[torch.from_numpy(rows)]].numpy()
    return found


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
