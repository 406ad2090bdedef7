"""What the cells of a comparison say together, in numbers.

The metric that ranks is AUROC; where whole series are scored it is VUS-PR. A mean is over the data sets on which every
model has a value in all seeds, so that no model gains by failing; a model that has none on more than half of the data
sets is left out of means and ranks. Spread is the standard deviation over seeds of that mean. A model that learns
(deep, hybrid or ensemble) and is not above the principal components is marked.

At the threshold, false alarms and recall are those of all rows of these data sets together; F1, which depends on how
common anomalies are, is a mean over data sets like the metric that ranks. For a model that was left out they are over
what it has.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepad.comparison.engine import cell_path, read_scores
from deepad.comparison.plan import Plan
from deepad.errors import InputError
from deepad.evaluation.bootstrap import paired_difference, paired_means
from deepad.evaluation.leaderboard import Leaderboard, leaderboard
from deepad.protocol import FLOORS

Values = NDArray[np.float64]
Good = Mapping[tuple[str, str, int], Mapping[str, Any]]
"""Metrics of cells by data set, model and seed."""
LEARNS = ("deep", "hybrid", "ensemble")
RIVALS = ("PCA", "k-NN")
"""Floors that every model is compared with one by one."""
TOLERANCE = 0.005
"""Difference of the metric that ranks up to which a data set counts as a tie."""


@dataclass(frozen=True, eq=False)
class Summary:
    """A comparison in numbers.

    Attributes:
        metric: the one that ranks, by its name in a cell.
        rows: what `leaderboard.csv` holds, best first.
        values: (S, M) the metric by data set and model, mean over seeds, NaN where a cell failed or is missing.
        models, data: names of the columns and rows of these.
        groups: for each entry of the file with several data sets, if there is more than one: number of complete data
            sets and the means (M,) of the metric that ranks and of average precision.
        board: ranks and tests of the `compared` models; None with fewer than two complete data sets.
        compared: models with a value on at least half of the data sets.
        failed: cells that ended with an error, and the error.
        missing: number of cells that are not there yet.
        notes: what else a reader must know.
    """

    metric: str
    rows: list[dict[str, Any]]
    values: Values
    models: list[str]
    data: list[str]
    groups: dict[str, tuple[int, Values, Values]]
    board: Leaderboard | None
    compared: list[str]
    failed: list[tuple[str, str]]
    missing: int
    notes: list[str]


def summarize(plan: Plan, cells: Sequence[Mapping[str, Any]], folder: Path | None = None) -> Summary:
    """The leaderboard of cells.

    Args:
        plan: what they are of.
        cells: as kept; those that failed have an error.
        folder: where their scores are, for comparisons on the same test samples.

    Raises:
        InputError: no cell has a result, or two cells of one data set and seed had other rows.
    """
    _require_same_rows(cells)
    metric = "whole_series.vus_pr" if plan.whole_series else "ranking.auroc"
    good = {(cell["data"], cell["model"], cell["seed"]): cell["metrics"] for cell in cells if not cell["error"]}
    if not good:
        raise InputError(f"none of the {len(cells)} cells has a result: {_first_error(cells)}")
    data, models = list(plan.data), list(plan.models)

    def table(name: str) -> Values:
        """A metric (S, M, K) by data set, model and seed."""
        keys = [[[(d, m, seed) for seed in plan.seeds] for m in models] for d in data]
        return np.array([[[_lookup(good.get(key), name) for key in row] for row in rows] for rows in keys], float)

    ranked = table(metric)
    values = ranked.mean(2)
    compared = np.flatnonzero((~np.isnan(values)).mean(0) >= 0.5)
    complete: NDArray[np.bool_] = np.asarray(~np.isnan(values[:, compared]).any(1))
    board = None
    if complete.sum() >= 2 and len(compared) >= 2:
        board = leaderboard(values[np.ix_(complete, compared)], tolerance=TOLERANCE)
    ranks = {} if board is None else dict(zip(compared.tolist(), board.ranks.mean.tolist(), strict=True))
    names = {metric: metric, "average_precision": "ranking.average_precision"} | (
        {"auroc": "ranking.auroc"} if metric != "ranking.auroc" else {}
    )
    tables = {name: table(path)[complete] for name, path in names.items()}
    rows = []
    for place, model in enumerate(models):
        row: dict[str, Any] = {"model": model, "kind": plan.kind(model), "sets": int(complete.sum())}
        for name, cubes in tables.items():
            by_seed, label = cubes[:, place].sum(0) / max(len(cubes), 1), name.rpartition(".")[2]
            row[label] = value_of(by_seed.mean()) if complete.any() else None
            row[f"{label}_sd"] = value_of(by_seed.std(ddof=1)) if complete.any() and len(plan.seeds) > 1 else None
        row["rank"] = ranks.get(place)
        row |= _against(plan, values, complete, place)
        row |= _told_apart(plan, good, model, folder)
        judged = [d for d, whole in zip(data, complete, strict=True) if whole or place not in compared]
        row |= _at_threshold([[good.get((d, model, seed)) for seed in plan.seeds] for d in judged])
        row["refused"] = sum(one["at_threshold"] is None for (_, name, _), one in good.items() if name == model)
        rows.append(row)
    label = metric.rpartition(".")[2]
    rows.sort(key=lambda row: (row[label] is None, -(row[label] or 0), row["model"]))
    failed = [(cell["cell"], cell["error"]) for cell in cells if cell["error"]]
    missing = len(plan.cells()) - len(cells)
    told = [models[place] for place in compared]
    precision, groups = table("ranking.average_precision").mean(2), {}
    for name, members in plan.groups.items() if len(plan.groups) > 1 else ():
        chosen = np.isin(data, members) & complete
        if chosen.any():
            groups[name] = int(chosen.sum()), values[chosen].mean(0), precision[chosen].mean(0)
    notes = _notes(cells, complete, data)
    return Summary(metric, rows, values, models, data, groups, board, told, failed, missing, notes)


def _against(plan: Plan, values: Values, complete: NDArray[np.bool_], place: int) -> dict[str, Any]:
    """A model beside the floors that count: data sets won, tied and lost, and the mean difference."""
    row: dict[str, Any] = {}
    models = list(plan.models)
    for floor in RIVALS:
        other = models.index(_name_of(plan, floor))
        both = complete & ~np.isnan(values[:, place]) & ~np.isnan(values[:, other])
        gaps = values[both, place] - values[both, other]
        row[f"{floor}_won"] = int((gaps > TOLERANCE).sum())
        row[f"{floor}_tied"] = int((np.abs(gaps) <= TOLERANCE).sum())
        row[f"{floor}_lost"] = int((gaps < -TOLERANCE).sum())
        row[f"{floor}_difference"] = value_of(gaps.mean()) if len(gaps) else None
        around = paired_means(values[both, place], values[both, other]) if len(gaps) > 1 else None
        row[f"{floor}_low"], row[f"{floor}_high"] = (None, None) if around is None else (around.low, around.high)
        if floor == "PCA":
            row["below_PCA"] = plan.kind(models[place]) in LEARNS and bool(gaps.mean() <= 0) if len(gaps) else None
    return row


def _told_apart(plan: Plan, good: Good, model: str, folder: Path | None) -> dict[str, Any]:
    """On how many data sets a model that learns is above and below a floor beyond what other test rows could change.

    Counted is where the paired 95 % interval of the difference in AUROC lies above or below 0: that of the first seed,
    about its test rows alone. None where there is no such interval: steps of a series depend on each other.
    """
    row: dict[str, Any] = {}
    for floor in RIVALS:
        gaps = []
        for data in plan.data if folder is not None and plan.kind(model) in LEARNS else ():
            pair = [(data, name, plan.seeds[0]) for name in (model, _name_of(plan, floor))]
            if plan.series[data] or not all(key in good for key in pair):
                continue
            ours, theirs = (read_scores(cell_path(folder, *key)) for key in pair)  # type: ignore[arg-type]
            if ours is None or theirs is None:
                continue
            judged = ~np.isnan(ours["score"]) & ~np.isnan(theirs["score"])
            y = ours["y"][judged]
            if np.bincount(y, minlength=2).min() >= 2:
                gaps.append(paired_difference(y, ours["score"][judged], theirs["score"][judged], draws=200))
        row[f"{floor}_auroc_above"] = sum(gap.low > 0 for gap in gaps) if gaps else None
        row[f"{floor}_auroc_below"] = sum(gap.high < 0 for gap in gaps) if gaps else None
    return row


def _name_of(plan: Plan, floor: str) -> str:
    return next(name for name, tag in plan.floors.items() if tag == FLOORS[floor])


def _at_threshold(found: Sequence[Sequence[Mapping[str, Any] | None]]) -> dict[str, Any]:
    """What happened at the calibrated threshold, of cells by data set and seed."""
    sets = [[one["at_threshold"] for one in seeds if one and one["at_threshold"]] for seeds in found]
    at = [one for seeds in sets for one in seeds]
    normal, alarms = sum(one["n_normal"] for one in at), sum(one["false_alarms"] for one in at)
    anomalies, hits = sum(one["n_anomalies"] for one in at), sum(one["hits"] for one in at)
    inside = [one["inside_law_99"] for one in at if one["inside_law_99"] is not None]
    f1 = [np.mean(known) for seeds in sets if (known := [one["f1"] for one in seeds if one["f1"] is not None])]
    return {
        "false_alarm_rate": alarms / normal if normal else None,
        "recall": hits / anomalies if anomalies else None,
        "f1": float(np.mean(f1)) if f1 else None,
        "inside_law_99": sum(inside) if inside else None,
        "promised": len(inside),
    }


def _require_same_rows(cells: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to compare cells of one data set and seed whose rows were others: a file has changed between them."""
    first: dict[tuple[str, int], tuple[Any, str]] = {}
    for cell in cells:
        if cell["error"]:
            continue
        splits = [cell["splits"][name] for name in ("train", "val", "calibration", "test")]
        rows = [(split["digest"], split["n"], split.get("n_anomalies")) for split in splits]
        known, name = first.setdefault((cell["data"], cell["seed"]), (rows, cell["cell"]))
        if rows != known:
            raise InputError(
                f"{name} and {cell['cell']} had other rows, the data have changed between them: give another --output, "
                f"or remove the cells of {cell['data']} that are older"
            )


def _notes(cells: Sequence[Mapping[str, Any]], complete: NDArray[np.bool_], data: list[str]) -> list[str]:
    notes = []
    if not complete.all():
        left = [name for name, whole in zip(data, complete, strict=True) if not whole]
        notes.append(f"not in any mean, since a cell failed or is missing: {', '.join(left)}")
    versions = {json.dumps(cell["versions"], sort_keys=True) for cell in cells if not cell["error"]}
    if len(versions) > 1:
        notes.append(f"the cells were made by {len(versions)} different sets of versions, see cells.csv")
    return notes


def _lookup(metrics: Mapping[str, Any] | None, path: str) -> float:
    for key in path.split("."):
        metrics = None if metrics is None else metrics.get(key)
    return np.nan if metrics is None else float(metrics)  # type: ignore[arg-type] # the last one is a number


def _first_error(cells: Sequence[Mapping[str, Any]]) -> str:
    return next((f"{cell['cell']}: {cell['error']}" for cell in cells), "run the comparison first")


def value_of(number: Any) -> float | None:
    """A number as a plain value, None for NaN."""
    return None if np.isnan(number) else float(number)
