"""Drift and outages: what each way of setting a threshold on a stream of scores does, and which alarm tells what.

    python scripts/drift_scenarios.py

Scores of a plant are lognormal with a level that a scenario moves; in an outage they rise. 5000 steps calibrate, 15 000
follow, the outage is at 12 000. False alarms and recall are means over seeds (lowest to highest).
"""

import argparse
import csv
from collections import deque
from pathlib import Path

import numpy as np

from deepad.errors import InputError
from deepad.scoring.conformal import Calibration
from deepad.scoring.drift import DriftMonitor
from deepad.scoring.standardize import RollingStandardize
from deepad.scoring.workload import AlertBudget

N, CALIBRATION, ALPHA, WINDOW, OUTAGE = 20_000, 5000, 0.01, 1000, 17_000
Scores = np.ndarray
t = np.arange(N)
ramp = np.clip((t - 8000) / 7000, 0, 1)
SCENARIOS = {  # level and spread of normal scores, steps of the outage
    "nothing changes": (0 * t, 1 + 0 * t, 200),
    "slow drift by 3 spreads": (3 * ramp, 1 + 0 * t, 200),
    "level jumps by 3 spreads": (3.0 * (t >= 10_000), 1 + 0 * t, 200),
    "spread doubles": (0 * t, 1.0 + (t >= 10_000), 200),
    "cycle of 2000 steps": (1.5 * np.sin(2 * np.pi * t / 2000), 1 + 0 * t, 200),
    "outage longer than half the window": (0 * t, 1 + 0 * t, 800),
    "sensor stuck, scores too small": (-1.0 * (t >= 10_000), 1 - 0.9 * (t >= 10_000), 200),
}


def plant(name: str, seed: int) -> tuple[Scores, Scores]:
    """Scores (N,) and whether each step is in the outage."""
    level, spread, length = SCENARIOS[name]
    odd = (t >= OUTAGE) & (t < OUTAGE + length)
    noise = np.random.default_rng(seed).lognormal(0, 0.4, N) - 1
    return 10 + level + spread * noise + 12 * odd, odd


def frozen(scores: Scores, begin: int = 0) -> Scores:
    """A threshold set once."""
    return Calibration.fit(scores[begin:CALIBRATION]).threshold(ALPHA).flag(scores) & ~np.isnan(scores)


def quartile_spread(scores: Scores) -> Scores:
    """Scores less the median of the last window, over the distance of its quartiles, which an outage inflates."""
    windows = np.lib.stride_tricks.sliding_window_view(scores, WINDOW)[:-1]
    low, middle, high = np.quantile(windows, [0.25, 0.5, 0.75], axis=1)
    return np.concatenate([np.full(WINDOW, np.nan), (scores[WINDOW:] - middle) / (high - low)])


def sliding(scores: Scores, admit_flagged: bool) -> Scores:
    """A threshold from the last window, with or without what was flagged."""
    window, flagged = deque(scores[CALIBRATION - WINDOW : CALIBRATION], WINDOW), np.zeros(N, bool)
    most = int(ALPHA * (WINDOW + 1))
    for step in range(CALIBRATION, N):
        flagged[step] = scores[step] > np.partition(np.fromiter(window, float, WINDOW), -most)[-most]
        if admit_flagged or not flagged[step]:
            window.append(scores[step])
    return flagged


def first_stale(scores: Scores) -> str:
    """Steps after the calibration at which the monitor finds it stale, one false alarm in a million steps expected."""
    try:
        monitor = DriftMonitor(scores[:CALIBRATION], run_length=1e6)
    except InputError:
        return "refused"  # scores that depend on each other
    return str(monitor.update(scores[CALIBRATION:]).since or "never")


METHODS = {
    "frozen": frozen,
    "sliding, all": lambda scores: sliding(scores, True),
    "sliding, without flagged": lambda scores: sliding(scores, False),
    "steady workload": lambda s: AlertBudget(ALPHA).update(Calibration.fit(s[:CALIBRATION]).p_values(s)),
    "quartile spread": lambda scores: frozen(quartile_spread(scores), WINDOW),
    "standardised": lambda scores: frozen(RollingStandardize(WINDOW)(scores), WINDOW),
}


def main(seeds: int, output: Path) -> None:
    """Write a row for each scenario, method and seed; print means and ranges."""
    rows = [["scenario", "method", "seed", "before", "after", "recall", "stale_after"]]
    for scenario in SCENARIOS:
        stale = []
        for seed in range(seeds):
            scores, odd = plant(scenario, seed)
            since = first_stale(scores)
            stale.append(since)
            early, late = (t >= CALIBRATION) & (t < 10_000) & ~odd, (t >= 10_000) & ~odd
            for name in METHODS:
                flagged = METHODS[name](scores)
                rates = [f"{flagged[where].mean():.4f}" for where in (early, late, odd)]
                rows.append([scenario, name, seed, *rates, since])
        print(f"{scenario}: calibration is stale after so many steps: {', '.join(sorted(set(stale)))}")
        for name in METHODS:
            found = np.array([row[3:6] for row in rows if row[:2] == [scenario, name]], float)
            spread = zip(found.mean(0), found.min(0), found.max(0), strict=True)
            cells = [f"{mean:.2%} ({low:.2%} to {high:.2%})" for mean, low, high in spread]
            print(f"| {scenario} | {name} | {' | '.join(cells)} |", flush=True)
    with output.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("docs/results/drift-scenarios.csv"))
    main(**vars(parser.parse_args()))
