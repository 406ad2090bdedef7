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
from pathlib import Path
from typing import Any

from deepad import protocol
from deepad.atomic import replacing
from deepad.data.base import DataModule
from deepad.detectors.base import Detector, plain_values
from deepad.evaluation.metrics import evaluate
from deepad.report import pages
from deepad.rooms import members
from deepad.scoring.records import as_table, open_table

FLOOR_VALUES = 20_000_000
"""Most numbers that a classical model is fitted on."""
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
    decision: dict[str, Any] = {"alpha": alpha, "kind": kind, "delta": delta, "rule": rule}
    scorer = protocol.calibrate(detector, data, **decision)
    tested = protocol.judge(scorer, data)
    verdict, y = tested.verdict, tested.y
    known = members("baselines", "Baseline")
    fitted = {name: protocol.fit(known[tag](), data, values=FLOOR_VALUES) for name, tag in protocol.FLOORS.items()}
    floor = {name: protocol.judge(protocol.calibrate(model, data, **decision), data) for name, model in fitted.items()}
    metrics: dict[str, Any] = {
        "model": type(detector).__name__,
        "id": scorer.id,
        "arguments": plain_values(detector.hparams),
        "data": data.describe(),
        "guarantee": {**verdict.guarantee.to_dict(), "text": str(verdict.guarantee)},
        "test": evaluate(verdict, y),
        "floors": {name: evaluate(judged.verdict, y) for name, judged in floor.items()},
        "training": training or {},
        "versions": versions(),
    }
    scorer.save(folder / "scorer")
    with open_table(folder / "scores.parquet") as writer:
        writer.write(as_table(verdict, tested.source, tested.index, metrics["id"][:12], y=y))
    page = pages.page(metrics, detector, data, verdict, y, folder)
    for name, text in (("report.html", page), ("metrics.json", json.dumps(metrics, indent=1) + "\n")):
        with replacing(folder / name) as file:  # metrics.json comes last: where it is, the run is complete
            file.write(text.encode())
    return metrics


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
