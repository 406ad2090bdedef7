"""The pages of a run, of judged files and of explained samples: what is said on them, from plain values."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deepad.report import html, sections
from deepad.report.sections import Judged

Array = NDArray[Any]


def run_page(
    metrics: dict[str, Any],
    judged: Judged,
    exhibits: dict[str, Array],
    folder: Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    score: Callable[[Array], Array] | None = None,
) -> str:
    """The HTML text of a run's page.

    Args:
        metrics: what `metrics.json` holds.
        judged: the test split.
        exhibits: what of it is to be looked at, see `deepad.exhibits`.
        folder: of the run; the logs of the training are read from there, if there are any.
        names: of the channels of a series, or of two features.
        source: the recording that the exhibits of a series are of.
        score: gives scores (M,) of points (M, 2), where samples have two features.
    """
    parts = [
        sections.of_scores(judged),
        sections.of_promise(judged),
        sections.of_ranking(judged),
        sections.of_images(judged, exhibits),
        sections.of_series(judged, exhibits, names, source),
        sections.of_features(judged, exhibits, score, names or ("feature 1", "feature 2")),
        sections.of_training(*_losses(folder)),
    ]
    return html.render("page.html", _statements(metrics), parts)


def judged_page(
    title: str,
    subtitle: str,
    judged: Judged,
    told: Sequence[str],
    result: dict[str, Any] | None,
    series: Sequence[tuple[str, Sequence[str], dict[str, Array]]] = (),
    entries: Sequence[dict[str, Any]] = (),
) -> str:
    """The HTML text of a page on files that a scorer has judged.

    Args:
        title: what was judged.
        subtitle: with what.
        judged: all of it.
        told: sentences about it.
        result: what `evaluate` says, where there are labels.
        series: recordings to draw: name, channels, and exhibits.
        entries: samples with the highest scores, explained.
    """
    guarantee = judged.verdict.guarantee
    rows = [] if result is None else [{"name": "this scorer", "cells": _cells(result)}]
    statements = {
        **_of_guarantee(guarantee.to_dict() | {"text": str(guarantee)}),
        "title": title,
        "subtitle": subtitle,
        "kept": None if result is None else _kept_promise(result, guarantee.kind, judged.noun),
        "heading": "Ranking and flags",
        "told": told,
        "rows": rows,
        "explained": {"title": "Highest scores", "entries": entries} if entries else None,
    }
    parts = [sections.of_scores(judged), sections.of_promise(judged), sections.of_ranking(judged)]
    parts += [sections.of_series(judged, exhibits, names, source) for source, names, exhibits in series]
    return html.render("page.html", {**EMPTY, **statements}, parts)


def explained_page(title: str, subtitle: str, guarantee: dict[str, Any], entries: Sequence[dict[str, Any]]) -> str:
    """The HTML text of a page on explained samples.

    Args:
        title: what they are of.
        subtitle: what scored them.
        guarantee: as plain values, with its `text`.
        entries: of the samples, see `deepad.report.explained`.
    """
    explained = {"title": "Explanations", "entries": entries}
    page = {**EMPTY, **_of_guarantee(guarantee), "title": title, "subtitle": subtitle, "explained": explained}
    return html.render("page.html", page, [])


EMPTY: dict[str, Any] = {
    "kept": None, "told": (), "rows": (), "better": "", "intervals": False, "explained": None, "provenance": (),
    "heading": "Beside the floor",
}  # fmt: skip
"""What a page need not say."""


def summary(metrics: dict[str, Any], folder: Path) -> str:
    """A run in a few lines for the terminal."""
    test, data = metrics["test"], metrics["data"]
    lines = [f"trained    {metrics['model']} on {data['train']['n']} normal rows of {data['title']}"]
    if metrics["training"]:
        lines[0] += f", {metrics['training']['epochs']} epochs in {metrics['training']['seconds']:.0f} s"
    lines += [f"promised   {metrics['guarantee']['text']}", f"kept       {_kept(*_tested(metrics))}"]
    for name, result in {metrics["model"]: test, **metrics["floors"]}.items():
        auroc, ap, *_ = _cells(result)
        told = f"failed: {result['error']}" if "error" in result else f"AUROC {auroc}, AP {ap}"
        lines.append(f"{'ranking' if result is test else 'floor':10} {told} ({name})")
    if better := _better_floors(metrics):
        lines.append(f"{'note':10} {better}")
    lines += [f"{name:10} {folder / path}" for name, path in
              (("scorer", "scorer"), ("scores", "scores.parquet"), ("report", "report.html"))]  # fmt: skip
    return "\n".join(lines)


def _kept(test: dict[str, Any], kind: str, noun: str) -> str:
    """False alarms beside what was promised of this kind.

    Args:
        test: what `evaluate` says.
        kind: of the guarantee.
        noun: what was judged.
    """
    at = test["at_threshold"]
    if not at["n_normal"]:
        return f"no normal test {noun} to check it on"
    counted = f"{at['false_alarms']} of {at['n_normal']} normal test {noun} flagged = {at['false_alarm_rate']:.2%}"
    if at["law_99"] is None:
        about = "nothing was promised" if kind in ("none", "model") else f"the promise is not about single {noun}"
        return f"{counted} ({about})"
    return f"{counted} (99 % range of the law: {at['law_99'][0]} to {at['law_99'][1]})"


def _better_floors(metrics: dict[str, Any]) -> str:
    """Which classical models rank the test split better than the deep one; empty if none does."""
    auroc = metrics["test"]["ranking"]["auroc"]
    floors = {name: result for name, result in metrics["floors"].items() if "error" not in result}
    better = [name for name, result in floors.items() if auroc and result["ranking"]["auroc"] > auroc]
    named = " and ".join(filter(None, (", ".join(better[:-1]), *better[-1:])))
    return f"{named} ranked the test split better than {metrics['model']}" if better else ""


def _cells(result: dict[str, Any]) -> list[str]:
    """AUROC and average precision, with their intervals where they are known; false alarms and recall."""
    if "error" in result:
        return ["failed", "-", "-", "-"]
    ranking, at, ranges = result["ranking"], result["at_threshold"], result.get("intervals") or {}
    cells = []
    for name in ("auroc", "average_precision"):
        value, range_of = ranking[name], ranges.get(name)
        cells.append("-" if value is None else f"{value:.3f}")
        if range_of:
            cells[-1] += f" [{range_of[0]:.3f}, {range_of[1]:.3f}]"
    return cells + ["-" if v is None else f"{v:.2%}" for v in (at["false_alarm_rate"], at["recall"])]


def _of_guarantee(guarantee: dict[str, Any]) -> dict[str, Any]:
    """The promise and what it rests on."""
    text = guarantee["text"]
    rests = guarantee["assumptions"] if guarantee["kind"] != "none" else []
    return {"promise": text[0].upper() + text[1:], "assumptions": rests}


def _tested(metrics: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """What was found on the test split, the kind of the guarantee, and what was judged."""
    return metrics["test"], metrics["guarantee"]["kind"], "steps" if "steps" in metrics["data"] else "samples"


def _kept_promise(test: dict[str, Any], kind: str, noun: str) -> dict[str, Any] | None:
    """Whether false alarms were as many as promised; None without normal samples."""
    at = test["at_threshold"]
    return {"text": _kept(test, kind, noun) + ".", "inside": at["inside_law_99"]} if at["n_normal"] else None


def _statements(metrics: dict[str, Any]) -> dict[str, Any]:
    data, test, training = metrics["data"], metrics["test"], metrics["training"]
    results = {metrics["model"]: test, **{f"{name} (floor)": result for name, result in metrics["floors"].items()}}
    noun = "windows" if "window_size" in data else "samples"
    return {
        **EMPTY,
        "title": f"{metrics['model']} on {data['title']}",
        "subtitle": f"trained on {data['train']['n']} normal {noun}, calibrated on {data['calibration']['n']} others, "
        f"tested on {test['n']} ({test['n_anomalies']} anomalies)",
        **_of_guarantee(metrics["guarantee"]),
        "kept": _kept_promise(*_tested(metrics)),
        "intervals": bool(test.get("intervals")),
        "better": _better_floors(metrics),
        "rows": [{"name": name, "cells": _cells(result)} for name, result in results.items()],
        "provenance": [
            ("model id", metrics["id"]),
            ("arguments", json.dumps(metrics["arguments"])),
            *((f"{split} rows", f"{data[split]['n']}, digest {data[split]['digest']}") for split in
              ("train", "val", "calibration", "test")),
            ("copies dropped", data["dropped"]),
            *(("calibration rows whose value recurs in training", n) for n in [data.get("recurring")] if n),
            *(("data", note) for note in data.get("notes", [])),
            *((name, value) for name, value in training.items()),
            *((f"{name} failed", floor["error"]) for name, floor in metrics["floors"].items() if "error" in floor),
            *metrics["versions"].items(),
        ],
    }  # fmt: skip


def _losses(folder: Path) -> tuple[list[float], list[float]]:
    """Training and validation loss by epoch, from the logs of the training and of its resumptions."""
    losses: dict[str, dict[int, float]] = {"train_loss": {}, "val_loss": {}}
    for log in sorted(folder.glob("training*/metrics.csv")):
        with log.open(newline="") as file:
            whole = (line for line in file if line.endswith("\n"))  # a kill may have cut off the last
            for row in csv.DictReader(whole):
                for name, by_epoch in losses.items():
                    if row.get(name):
                        by_epoch[int(row["epoch"])] = float(row[name])
    train, val = ([by_epoch[epoch] for epoch in sorted(by_epoch)] for by_epoch in losses.values())
    return train, val
