"""Alarmed blocks of normal time against the budget, on all series of the Numenta benchmark and on the SKAB pump.

    DEEPAD_DATA=... python scripts/series_budget.py

Labelled windows are cut out. In order of time, 40 % of the rest fits a PCA on windows, 35 % calibrates, what remains is
judged. A block is 6 hours (series of hours: a day; SKAB: a minute), with at most one alert.
"""

import argparse
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.data.windows import windows_of
from deepad.errors import DeepadError, InputError
from deepad.scoring.drift import DriftMonitor
from deepad.scoring.eventrule import EventRule

WINDOW, SHARES = 24, (0.0, 0.4, 0.75, 1.0)
VARIANTS = {"raw": {}, "2 of 3": {"persistence": (2, 3)}, "standardised": {"standardize": 96}}
Parts = list[np.ndarray]


def series(folder: Path) -> Iterator[tuple[str, Parts, int]]:
    """Name, unbroken normal stretches (n, C) and steps of a block."""
    windows = json.loads((folder / "nab/labels/combined_windows.json").read_text())
    for path in sorted((folder / "nab/data").glob("*/*.csv")):
        frame, name = pd.read_csv(path, parse_dates=["timestamp"]), f"{path.parent.name}/{path.name}"
        between = [frame.timestamp.between(*map(pd.Timestamp, window)) for window in windows[name]]
        normal = ~np.any([np.zeros(len(frame), bool), *between], axis=0)
        seconds = frame.timestamp.diff().dt.total_seconds().median()
        yield name, runs(frame.value.to_numpy(np.float32)[:, None], normal), max(round(21_600 / seconds), WINDOW)
    long = pd.read_csv(folder / "skab/anomaly-free/anomaly-free.csv", sep=";").iloc[:, 1:].to_numpy(np.float32)
    yield "skab/anomaly-free", [long], 60
    other: Parts = []  # of other days
    for path in sorted((folder / "skab/valve1").glob("*.csv")):
        frame = pd.read_csv(path, sep=";")
        other += runs(frame.iloc[:, 1 : 1 + long.shape[1]].to_numpy(np.float32), frame.anomaly.to_numpy() == 0)
    yield "skab/anomaly-free, then valve1", [long, *other], 60


def runs(values: np.ndarray, normal: np.ndarray) -> Parts:
    """The unbroken normal stretches, without those that hold no window."""
    edges = np.flatnonzero(np.diff(normal, prepend=False, append=False)).reshape(-1, 2)
    return [values[a:b] for a, b in edges if b - a > WINDOW]


def split(stretches: Parts) -> list[Parts]:
    """Stretches that fit, calibrate and are judged, a window apart."""
    ends, parts = np.cumsum([len(stretch) for stretch in stretches]), []
    for low, high in pairwise([int(share * ends[-1]) for share in SHARES]):
        begin = low + WINDOW if low else 0
        inside = [
            s[max(begin - e + len(s), 0) : max(high - e + len(s), 0)] for s, e in zip(stretches, ends, strict=True)
        ]
        parts.append([part for part in inside if len(part) > WINDOW])
    return parts


def judged(stretches: Parts, block: int, chances: list[float]) -> Iterator[dict[str, object]]:
    """A row for each variant and chance of an alarm in a block; beside it the level of points that seems to fit."""
    fit, held_out, test = split(stretches)
    model = PCAResidual(10, scaling="none").fit(np.concatenate([windows_of(part, WINDOW) for part in fit]))
    for variant, chance in ((variant, chance) for variant in VARIANTS for chance in chances):
        row = {"variant": variant, "block": block, "asked": chance}
        events = EventRule(block=block, **VARIANTS[variant])
        try:
            scorer = Scorer.calibrate(model, held_out, steps="window", alpha=chance, events=events)
        except DeepadError as error:
            yield {**row, "refused": str(error)}
            continue
        verdicts, points = [scorer(part) for part in test], Scorer.calibrate(model, held_out, steps="window")
        scores = [verdict.score for verdict in verdicts]
        alarmed = events.blocks.alarmed_slots([verdict.flagged for verdict in verdicts], scores)
        flagged = [points(part, alpha=chance / block).flagged for part in test]
        law = scorer.threshold.guarantee.future_alarms(max(len(alarmed), 1), level=0.99)
        try:  # the maxima of the calibration are no longer in their order
            monitor = DriftMonitor(scorer.calibration.scores, level=0.05, exchangeable=True)
            stale = monitor.update(events.blocks.slot_maxima(scores).ravel()).stale
        except InputError:
            stale = "refused"
        yield {**row, "calibrated": scorer.calibration.n, "judged": len(alarmed), "alarmed": int(alarmed.sum()),
               "law_high": law[1], "by_points": int(events.blocks.alarmed_slots(flagged, scores).sum()),
               "stale": stale}  # fmt: skip


def main(chances: list[float], output: Path, only: str) -> None:
    """Judge all series and print what is pooled over them."""
    found = ((name, judged(*rest, chances)) for name, *rest in series(Path(os.environ["DEEPAD_DATA"])) if only in name)
    table = pd.DataFrame([{"series": name, **row} for name, rows in found for row in rows])
    table.to_csv(output, index=False)
    for (variant, asked), some in table[table.judged > 0].groupby(["variant", "asked"], sort=False):
        alarmed, points = (some[name].sum() / some.judged.sum() for name in ("alarmed", "by_points"))
        counts = f"{len(some)} series, {some.judged.sum():.0f} blocks"
        print(f"{variant}, asked {asked}: {counts}, {alarmed:.3f} alarmed (by the level of points {points:.3f})")
        print(f"  above the 99 % law: {', '.join(some.series[some.alarmed > some.law_high]) or 'none'}")
        rate = some.alarmed / some.judged
        print(f"  mean over series {rate.mean():.3f}, {(rate > asked).sum()} above what was asked, found stale: "
              f"{some.stale.isin([True]).sum()}, refused: {(some.stale == 'refused').sum()}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chances", type=float, nargs="+", default=[0.25, 0.1], help="of an alarm in a block")
    parser.add_argument("--output", type=Path, default=Path("docs/results/series-budget.csv"))
    parser.add_argument("--only", default="", help="series whose name holds this")
    main(**vars(parser.parse_args()))
