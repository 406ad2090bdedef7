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

import csv
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepad.atomic import replacing
from deepad.baselines.pca import PCAResidual
from deepad.data.base import DataModule
from deepad.detectors.base import Detector, plain_values
from deepad.evaluation.metrics import evaluate
from deepad.report import figures, html
from deepad.scoring.records import as_table, open_table
from deepad.scoring.scorer import Scorer, Verdict

FLOOR_ROWS = 50_000
PACKAGES = ("deepad", "torch", "pytorch-lightning", "numpy", "scikit-learn", "safetensors")


def finish(
    detector: Detector,
    data: DataModule,
    folder: Path,
    *,
    alpha: float,
    kind: str = "marginal",
    delta: float | None = None,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Calibrate a trained detector, judge the test split and write the run folder.

    Args:
        detector: trained on `data`.
        data: its four splits.
        folder: where to write; the logs of the training are read from there, if there are any.
        alpha: false-alarm rate, in (0, 1).
        kind: `"marginal"` or `"pac"`.
        delta: for `"pac"`.
        training: plain values about the training, kept in `metrics.json`.

    Returns:
        What `metrics.json` holds.
    """
    decision: dict[str, Any] = {"alpha": alpha, "kind": kind, "delta": delta}
    scorer = Scorer.calibrate(detector, data.calibration_dataloader(), **decision)
    verdict, y = scorer(data.test_dataloader()), data.test_labels()
    floor = _floor(data, decision)
    metrics = {
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
        writer.write(as_table(verdict, ["test"] * len(y), np.arange(len(y)), scorer.id[:12], y=y))
    page = html.render(_page(metrics), _figures(detector, data, verdict, y, folder))
    for name, text in (("report.html", page), ("metrics.json", json.dumps(metrics, indent=1) + "\n")):
        with replacing(folder / name) as file:  # metrics.json comes last: where it is, the run is complete
            file.write(text.encode())
    return metrics


def _floor(data: DataModule, decision: dict[str, Any]) -> dict[str, Verdict]:
    """The classical verdicts that stand beside the deep one, on the same calibration rows and with the same promise."""
    rows = data.splits.train
    chosen = np.random.default_rng(data.seed).permutation(len(rows))[:FLOOR_ROWS]
    baseline = PCAResidual().fit(rows.x[rows.index[np.sort(chosen)]].numpy())
    return {
        "PCAResidual": Scorer.calibrate(baseline, data.calibration_dataloader(), **decision)(data.test_dataloader())
    }


def summary(metrics: dict[str, Any], folder: Path) -> str:
    """A run in a few lines for the terminal."""
    test, data = metrics["test"], metrics["data"]
    lines = [f"trained    {metrics['model']} on {data['train']['n']} normal rows of {data['module']}"]
    if metrics["training"]:
        lines[0] += f", {metrics['training']['epochs']} epochs in {metrics['training']['seconds']:.0f} s"
    lines += [f"promised   {metrics['guarantee']['text']}", f"kept       {_kept(test)}"]
    names = [metrics["model"], *metrics["floors"]]
    for name, result in zip(names, [test, *metrics["floors"].values()], strict=True):
        auroc, ap, *_ = _cells(result)
        lines.append(f"{'ranking' if result is test else 'floor':10} AUROC {auroc}, AP {ap} ({name})")
    lines += [f"{name:10} {folder / path}" for name, path in
              (("scorer", "scorer"), ("scores", "scores.parquet"), ("report", "report.html"))]  # fmt: skip
    return "\n".join(lines)


def _kept(test: dict[str, Any]) -> str:
    at = test["at_threshold"]
    if at["law_99"] is None:
        return "no normal test samples to check it on"
    return (
        f"{at['false_alarms']} of {at['n_normal']} normal test samples flagged = {at['false_alarm_rate']:.2%} "
        f"(99 % range of the law: {at['law_99'][0]} to {at['law_99'][1]})"
    )


def _cells(result: dict[str, Any]) -> list[str]:
    ranking, at = result["ranking"], result["at_threshold"]
    numbers = (ranking["auroc"], ranking["average_precision"])
    shares = (at["false_alarm_rate"], at["recall"])
    return [*("-" if v is None else f"{v:.3f}" for v in numbers), *("-" if v is None else f"{v:.2%}" for v in shares)]


def _page(metrics: dict[str, Any]) -> dict[str, Any]:
    data, test, training = metrics["data"], metrics["test"], metrics["training"]
    results = {metrics["model"]: test, **{f"{name} (floor)": result for name, result in metrics["floors"].items()}}
    inside = test["at_threshold"]["inside_law_99"]
    return {
        "title": f"{metrics['model']} on {data['module']}",
        "subtitle": f"trained on {data['train']['n']} normal samples, calibrated on {data['calibration']['n']} others, "
        f"tested on {test['n']} ({test['n_anomalies']} anomalies)",
        "promise": metrics["guarantee"]["text"][0].upper() + metrics["guarantee"]["text"][1:],
        "assumptions": metrics["guarantee"]["assumptions"],
        "kept": None if inside is None else {"text": _kept(test) + ".", "inside": inside},
        "rows": [{"name": name, "cells": _cells(result)} for name, result in results.items()],
        "provenance": [
            ("model id", metrics["id"]),
            ("arguments", json.dumps(metrics["arguments"])),
            *((f"{split} rows", f"{data[split]['n']}, digest {data[split]['digest']}") for split in
              ("train", "val", "calibration", "test")),
            *((name, value) for name, value in training.items()),
            *metrics["versions"].items(),
        ],
    }  # fmt: skip


def _figures(
    detector: Detector, data: DataModule, verdict: Verdict, y: Any, folder: Path
) -> list[tuple[Any, str, str]]:
    drawn = [
        (
            figures.score_histogram(verdict.score, y, verdict.threshold),
            f"Histogram of anomaly scores of normal and anomalous test samples, threshold at {verdict.threshold:.4g}",
            "Scores of the test samples. What lies right of the dashed line is flagged.",
        )
    ]
    train_loss, val_loss = _losses(folder)
    if val_loss:
        text = "Loss by epoch on training and validation rows"
        drawn.append(
            (figures.training_curves(train_loss, val_loss), text, f"{text}; both are normal. The best epoch is kept.")
        )
    if len(data.shape) == 3:
        drawn.append(_reconstruction_figure(detector, data, verdict, y))
    return drawn


def _losses(folder: Path) -> tuple[list[float], list[float]]:
    """Training and validation loss by epoch, from the logs of the training and of its resumptions."""
    losses: dict[str, dict[int, float]] = {"train_loss": {}, "val_loss": {}}
    for log in sorted(folder.glob("training*/metrics.csv")):
        with log.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, by_epoch in losses.items():
                    if row.get(name):
                        by_epoch[int(row["epoch"])] = float(row[name])
    train, val = ([by_epoch[epoch] for epoch in sorted(by_epoch)] for by_epoch in losses.values())
    return train, val


def _reconstruction_figure(detector: Detector, data: DataModule, verdict: Verdict, y: Any) -> tuple[Any, str, str]:
    order = np.argsort(-verdict.score)
    groups = {
        "caught": order[(y[order] == 1) & verdict.flagged[order]],
        "missed": order[(y[order] == 1) & ~verdict.flagged[order]][::-1],
        "false alarm": order[(y[order] == 0) & verdict.flagged[order]],
        "normal": order[(y[order] == 0) & ~verdict.flagged[order]][::-1],
    }
    chosen = [(name, row) for name, rows in groups.items() for row in rows[:3]]
    x = torch.stack([data.splits.test[int(row)][0] for _, row in chosen])
    with torch.inference_mode():
        rebuilt, parts = detector.cpu().reconstruct(x), detector.contributions(x)
    captions = [f"{name}\np = {verdict.p_value[row]:.3g}" for name, row in chosen]
    return (
        figures.reconstructions(x.float().numpy(), rebuilt.float().numpy(), parts.float().numpy(), captions),
        "Images above their reconstructions and maps of the reconstruction error",
        "Surest catches, worst misses, worst false alarms and most typical normal samples: original, what the model "
        "rebuilt, and which pixels the score comes from.",
    )
