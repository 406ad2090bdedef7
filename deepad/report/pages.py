"""The page of a run: what is said and drawn, from its metrics, its verdict and the detector itself."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepad.data.base import DataModule
from deepad.detectors.base import Detector
from deepad.report import figures, html
from deepad.scoring.verdict import Verdict

Labels = NDArray[np.int64]


def page(
    metrics: dict[str, Any], detector: Detector, data: DataModule, verdict: Verdict, y: Labels, folder: Path
) -> str:
    """The HTML text of a run's page.

    Args:
        metrics: what `metrics.json` holds.
        detector: trained.
        data: its four splits.
        verdict: on the test split.
        y: labels (n_test,), 1 = anomaly.
        folder: of the run; the logs of the training are read from there, if there are any.
    """
    return html.render("page.html", _statements(metrics), _figures(detector, data, verdict, y, folder))


def summary(metrics: dict[str, Any], folder: Path) -> str:
    """A run in a few lines for the terminal."""
    test, data = metrics["test"], metrics["data"]
    lines = [f"trained    {metrics['model']} on {data['train']['n']} normal rows of {data['title']}"]
    if metrics["training"]:
        lines[0] += f", {metrics['training']['epochs']} epochs in {metrics['training']['seconds']:.0f} s"
    lines += [f"promised   {metrics['guarantee']['text']}", f"kept       {_kept(test)}"]
    names = [metrics["model"], *metrics["floors"]]
    for name, result in zip(names, [test, *metrics["floors"].values()], strict=True):
        auroc, ap, *_ = _cells(result)
        lines.append(f"{'ranking' if result is test else 'floor':10} AUROC {auroc}, AP {ap} ({name})")
    if better := _better_floors(metrics):
        lines.append(f"{'note':10} {better}")
    lines += [f"{name:10} {folder / path}" for name, path in
              (("scorer", "scorer"), ("scores", "scores.parquet"), ("report", "report.html"))]  # fmt: skip
    return "\n".join(lines)


def _kept(test: dict[str, Any]) -> str:
    at = test["at_threshold"]
    if not at["n_normal"]:
        return "no normal test samples to check it on"
    counted = f"{at['false_alarms']} of {at['n_normal']} normal test samples flagged = {at['false_alarm_rate']:.2%}"
    if at["law_99"] is None:
        return f"{counted} (nothing was promised)"
    return f"{counted} (99 % range of the law: {at['law_99'][0]} to {at['law_99'][1]})"


def _better_floors(metrics: dict[str, Any]) -> str:
    """Which classical models rank the test split better than the deep one; empty if none does."""
    auroc = metrics["test"]["ranking"]["auroc"]
    better = [name for name, result in metrics["floors"].items() if auroc and result["ranking"]["auroc"] > auroc]
    return f"{' and '.join(better)} ranked the test split better than {metrics['model']}" if better else ""


def _cells(result: dict[str, Any]) -> list[str]:
    ranking, at = result["ranking"], result["at_threshold"]
    numbers = (ranking["auroc"], ranking["average_precision"])
    shares = (at["false_alarm_rate"], at["recall"])
    return [*("-" if v is None else f"{v:.3f}" for v in numbers), *("-" if v is None else f"{v:.2%}" for v in shares)]


def _statements(metrics: dict[str, Any]) -> dict[str, Any]:
    data, test, training = metrics["data"], metrics["test"], metrics["training"]
    results = {metrics["model"]: test, **{f"{name} (floor)": result for name, result in metrics["floors"].items()}}
    inside = test["at_threshold"]["inside_law_99"]
    noun = "windows" if "window_size" in data else "samples"
    return {
        "title": f"{metrics['model']} on {data['title']}",
        "subtitle": f"trained on {data['train']['n']} normal {noun}, calibrated on {data['calibration']['n']} others, "
        f"tested on {test['n']} ({test['n_anomalies']} anomalies)",
        "promise": metrics["guarantee"]["text"][0].upper() + metrics["guarantee"]["text"][1:],
        "assumptions": metrics["guarantee"]["assumptions"] if metrics["guarantee"]["kind"] != "none" else [],
        "kept": {"text": _kept(test) + ".", "inside": inside} if test["at_threshold"]["n_normal"] else None,
        "better": _better_floors(metrics),
        "rows": [{"name": name, "cells": _cells(result)} for name, result in results.items()],
        "provenance": [
            ("model id", metrics["id"]),
            ("arguments", json.dumps(metrics["arguments"])),
            *((f"{split} rows", f"{data[split]['n']}, digest {data[split]['digest']}") for split in
              ("train", "val", "calibration", "test")),
            ("copies dropped", data["dropped"]),
            *(("data", note) for note in data.get("notes", [])),
            *((name, value) for name, value in training.items()),
            *metrics["versions"].items(),
        ],
    }  # fmt: skip


def _figures(
    detector: Detector, data: DataModule, verdict: Verdict, y: Labels, folder: Path
) -> list[tuple[Any, str, str]]:
    drawn = [
        (
            figures.score_histogram(verdict.score, y, _line(verdict)),
            f"Histogram of anomaly scores of normal and anomalous test samples, threshold at {_line(verdict):.4g}",
            "Scores of the test samples. What lies right of the dashed line is flagged.",
        )
    ]
    train_loss, val_loss = _losses(folder)
    if val_loss:
        text = "Loss by epoch on training and validation rows"
        drawn.append(
            (figures.training_curves(train_loss, val_loss), text, f"{text}; both are normal. The best epoch is kept.")
        )
    if data.sequential:
        drawn.append(_series_figure(data, verdict, y))
    if len(data.shape) == 3:
        drawn.append(_reconstruction_figure(detector, data, verdict, y))
    return drawn


def _line(verdict: Verdict) -> float:
    """Where the threshold is drawn: the highest, if each group has its own."""
    return float(np.nanmax(verdict.threshold))


def _series_figure(data: DataModule, verdict: Verdict, y: Labels) -> tuple[Any, str, str]:
    """The longest unbroken stretch of the test split."""
    stretches = data.stretches("test")
    sizes = [len(stretch.y) for stretch in stretches]
    longest = int(np.argmax(sizes))
    chosen = slice(sum(sizes[:longest]), sum(sizes[: longest + 1]))
    stretch = stretches[longest]
    figure = figures.series_scores(
        stretch.values[stretch.scored],
        verdict.score[chosen],
        y[chosen],
        _line(verdict),
        names=data.schema.channels,
        first=stretch.first,
    )
    text = f"Channels and anomaly score of {stretch.source} by step, labelled anomalies shaded"
    return figure, text, f"{text}. Steps whose score lies above the dashed line are flagged."


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


def _reconstruction_figure(detector: Detector, data: DataModule, verdict: Verdict, y: Labels) -> tuple[Any, str, str]:
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
