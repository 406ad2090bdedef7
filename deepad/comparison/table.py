"""The files that say what the cells of a comparison say together.

| file              | holds                                                                                            |
|-------------------|--------------------------------------------------------------------------------------------------|
| `leaderboard.csv` | a row a model: means, spread over seeds, ranks, wins and losses, kept promises                   |
| `leaderboard.md`  | the same for people, the metric of each model on each set, tests, what failed                    |
| `sets.csv`        | a row a data set, a column a model: the metric that ranks, mean over seeds                       |
| `cells.csv`       | a row a cell: every metric, and the error of what failed                                         |
| `costs.csv`       | a row a model: mean seconds, and the most memory that it added; no two runs share these          |
| `report.html`     | the page                                                                                         |
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepad.atomic import replacing
from deepad.comparison.engine import read_cells
from deepad.comparison.plan import Plan
from deepad.comparison.summary import RIVALS, TOLERANCE, Summary, summarize, value_of
from deepad.report.comparison import page

BAR = r"\|"
"""A bar inside a cell of a Markdown table."""


def write_table(plan: Plan, folder: Path, title: str) -> Summary:
    """Write the files of the module docstring into the folder of a comparison, from the cells that are there.

    Raises:
        InputError: they make no table; what they are is in `cells.csv`.
    """
    cells = read_cells(plan, folder)
    _write(folder / "cells.csv", _csv([_flat(cell) for cell in cells]))
    found = summarize(plan, cells, folder)
    files = {
        "leaderboard.csv": _csv(found.rows),
        "leaderboard.md": as_markdown(found, title),
        "sets.csv": _csv([{"data": name, **dict(zip(found.models, map(value_of, row), strict=True))}
                          for name, row in zip(found.data, found.values, strict=True)]),
        "costs.csv": _csv(costs := _costs(plan, cells)),
    }  # fmt: skip
    head, rows = as_rows(found)
    files["report.html"] = page(
        title, _told(found), head, rows, [row["below_PCA"] for row in found.rows], found, costs, failures(found)
    )
    for name, text in files.items():
        _write(folder / name, text)
    return found


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _costs(plan: Plan, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for model in plan.models:
        own = [cell["cost"] for cell in cells if cell["model"] == model and not cell["error"]]
        if own:
            memory = [cost["added_memory_mib"] for cost in own if cost["added_memory_mib"] is not None]
            rows.append({
                "model": model,
                "fit_seconds": round(float(np.mean([cost["fit_seconds"] for cost in own])), 3),
                "score_seconds": round(float(np.mean([cost["score_seconds"] for cost in own])), 3),
                "added_memory_mib": max(memory, default=None),
            })  # fmt: skip
    return rows


def as_rows(found: Summary) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the leaderboard as text, without columns that say nothing of any model."""
    label = found.metric.rpartition(".")[2]
    head = ["model", "kind", label, "± seeds", "AP", "rank", "PCA w/t/l", "k-NN w/t/l", "difference to k-NN [95 %]",
            "false alarms", "inside law", "recall", "F1"]  # fmt: skip
    rows = []
    for row in found.rows:
        interval = "" if row["k-NN_low"] is None else f" [{row['k-NN_low']:+.3f}, {row['k-NN_high']:+.3f}]"
        gap = "" if row["k-NN_difference"] is None else f"{row['k-NN_difference']:+.3f}{interval}"
        wins = [f"{row[f'{floor}_won']}/{row[f'{floor}_tied']}/{row[f'{floor}_lost']}" for floor in RIVALS]
        inside = "" if row["inside_law_99"] is None else f"{row['inside_law_99']} of {row['promised']}"
        numbers = [_number(row[label]), _number(row[f"{label}_sd"]), _number(row["average_precision"])]
        rates = [_percent(row["false_alarm_rate"]), inside, _percent(row["recall"]), _number(row["f1"])]
        rows.append([row["model"], row["kind"], *numbers, _number(row["rank"], 2), *wins, gap, *rates])
    said = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return [head[place] for place in said], [[row[place] for place in said] for row in rows]


def as_markdown(found: Summary, title: str) -> str:
    """The leaderboard as a page of Markdown."""
    head, rows = as_rows(found)
    lines = [f"# {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row, cells in zip(found.rows, rows, strict=True):
        mark = " (below PCA)" if row["below_PCA"] else ""
        lines.append(f"| {' | '.join([cells[0] + mark, *cells[1:]])} |")
    lines += [
        "",
        *_told(found),
        *_by_group(found),
        "",
        f"{found.metric.rpartition('.')[2]} by data set, mean over seeds:",
        "",
    ]
    order = [found.models.index(row["model"]) for row in found.rows]
    lines += [f"| data | {' | '.join(found.models[place] for place in order)} |", "|---|" + "---|" * len(order)]
    for name, values in zip(found.data, found.values, strict=True):
        lines.append(f"| {name} | {' | '.join(_number(value_of(values[place])) for place in order)} |")
    if found.failed:
        lines += ["", f"{len(found.failed)} cells failed:", "", "| cells | such as | error |", "|---|---|---|"]
        lines += [f"| {count} | {cell} | {error.replace('|', BAR)} |" for count, cell, error in failures(found)]
    return "\n".join(lines) + "\n"


def failures(found: Summary) -> list[tuple[int, str, str]]:
    """Errors that cells ended with: how many, the first of them, and the error."""
    by_error: dict[str, list[str]] = {}
    for cell, error in found.failed:
        by_error.setdefault(error, []).append(cell)
    return [(len(cells), cells[0], error) for error, cells in by_error.items()]


def _by_group(found: Summary) -> list[str]:
    """Means over the data sets of each entry of the file, where there are several entries."""
    if not found.groups:
        return []
    metric = found.metric.rpartition(".")[2]
    heads = [f"{name} ({count} sets): {what}" for name, (count, *_) in found.groups.items() for what in (metric, "AP")]
    lines = ["", f"| model | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for row in found.rows:
        place = found.models.index(row["model"])
        numbers = [_number(value_of(part[place])) for _, *parts in found.groups.values() for part in parts]
        lines.append(f"| {row['model']} | {' | '.join(numbers)} |")
    return lines


def _told(found: Summary) -> list[str]:
    """What the tests say, and what a reader must know, in sentences."""
    board, lines = found.board, []
    sets = found.rows[0]["sets"]
    over = f"Means over {sets} data sets" if sets != 1 else "Of one data set"
    lines.append(f"{over}; won, tied (within {TOLERANCE}) and lost data sets beside each floor.")
    if board is not None:
        names = [found.compared[place] for place in np.argsort(board.ranks.mean, kind="stable")]
        lines.append(
            f"Friedman's test (Iman and Davenport): F = {board.friedman.f:.2f}, p = {board.friedman.p_value:.2g}; "
            f"mean ranks differ by more than chance where they are {board.critical_difference:.2f} apart (Nemenyi, "
            f"alpha = {board.alpha:g}). Best ranks: {', '.join(names[:5])}."
        )
    below = [row["model"] for row in found.rows if row["below_PCA"]]
    if below:
        lines.append(f"Not above the principal components: {', '.join(below)}.")
    refused = sum(row["refused"] for row in found.rows)
    if refused:
        lines.append(f"{refused} cells have too few calibration rows for their level: they are ranked without flags.")
    if found.missing:
        lines.append(f"{found.missing} cells are missing: the comparison has not ended.")
    return lines + [f"Note: {note}." for note in found.notes]


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell as one row; only what is a number or a text."""
    row = {key: cell.get(key) for key in ("data", "model", "seed", "kind", "error", "epochs")}
    pending = list((cell.get("metrics") or {}).items())
    while pending:
        name, value = pending.pop(0)
        if isinstance(value, dict):
            pending = [(f"{name}.{key}", inner) for key, inner in value.items()] + pending
        else:
            row[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    versions = cell.get("versions")
    return row | {"id": cell.get("id"), "versions": json.dumps(versions, sort_keys=True) if versions else None}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
