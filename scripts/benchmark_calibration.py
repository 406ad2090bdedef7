"""Seconds of calibration and decisions for a million scores, beside the same in plain NumPy, in a process without torch.

Each part runs a few times and the fastest counts. The twins are what one writes with NumPy in a few lines; those marked
with `~` are timed on a few scores and extrapolated. Where both must give the same numbers, that is checked.

    python scripts/benchmark_calibration.py
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

from deepad.scoring.conformal import Calibration
from deepad.scoring.discovery import select_fdr
from deepad.scoring.drift import DriftMonitor
from deepad.scoring.events import Blocks, Persistence, calibrate_blocks
from deepad.scoring.groups import GroupedCalibration
from deepad.scoring.standardize import RollingStandardize

ALPHA, Q, DELTA, BUDGET, WINDOW, GROUPS, FEW = 0.01, 0.1, 0.05, 1.0, 1000, 100, 100
DAY = Blocks(1440, 60)
Part = tuple[str, Callable[[], Any], str, Callable[[], Any], float, bool]  # the share that the twin does; checked?
views = np.lib.stride_tricks.sliding_window_view


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Which p-values (m,) the step-up procedure selects."""
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= Q * np.arange(1, len(p) + 1) / len(p))
    return p <= (ordered[below[-1]] if len(below) else 0)


def by_group(held: np.ndarray, s: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """P-values (m,), group by group."""
    p = np.empty(len(s))
    for name in np.unique(groups):
        ordered, own = np.sort(held[groups == name]), groups == name
        p[own] = (1 + len(ordered) - np.searchsorted(ordered, s[own])) / (1 + len(ordered))
    return p


def envelope_entry(n: int, k: int) -> float:
    """One entry of the envelope, from its product of n / 2 factors."""
    j = np.arange(n // 2)
    return 1 - np.exp((np.log(DELTA) + np.log((n + 1 - k - j) / (n - j)).sum()) / (n // 2))


def slot_budget(held: np.ndarray) -> float:
    """Threshold that keeps the budget, from the maxima of slots."""
    days = len(held) // DAY.length
    maxima = held[: days * DAY.length].reshape(-1, DAY.slot).max(1)
    k = int(BUDGET * (days + 1) - DAY.slots) + 1
    return float(np.partition(maxima, -k)[-k])


def parts(held: np.ndarray, s: np.ndarray) -> Iterator[Part]:
    """What deepad does and its twin, for n scores that calibrate and as many that are judged."""
    n, share, groups, rolling = len(held), FEW / len(held), np.arange(len(held)) % GROUPS, RollingStandardize(WINDOW)
    exact, few = (Calibration.fit(part, tie_rtol=0) for part in (held, held[:1000]))
    grouped, threshold, tolerant = (
        GroupedCalibration.fit(held, groups, tie_rtol=0), exact.threshold(ALPHA), Calibration.fit(held).threshold(ALPHA)
    )  # fmt: skip
    p, past = exact.p_values(s), held[: n // 2]
    yield "fit", lambda: Calibration.fit(held).scores, "sort", lambda: np.sort(held), 1, True
    twin = "searchsorted", lambda: (1 + n - np.searchsorted(exact.scores, s)) / (n + 1), 1, True
    yield "p-values", lambda: exact.p_values(s), *twin
    compared = lambda: np.array([(1 + (held >= one).sum()) / (n + 1) for one in s[:FEW]])  # noqa: E731
    yield "p-values", lambda: exact.p_values(s), "~ compare with each", compared, share, True
    twin = "searchsorted", lambda: (1001 - np.searchsorted(few.scores, s)) / 1001, 1, True
    yield "p-values, 1000 calibrate", lambda: few.p_values(s), *twin
    quantile = lambda: s > np.quantile(held, 1 - ALPHA)  # noqa: E731
    yield "fit, threshold, flag", lambda: Calibration.fit(held).threshold(ALPHA).flag(s), "quantile, >", quantile, 1, False
    yield "flag", lambda: threshold.flag(s), ">", lambda: s > threshold.value, 1, True
    yield "flag, ties tolerated", lambda: tolerant.flag(s), ">", lambda: s > tolerant.value, 1, False
    entries = lambda: np.array([envelope_entry(n, k) for k in range(1, FEW // 10 + 1)])  # noqa: E731
    yield "envelope", lambda: exact.envelope(DELTA), "~ product for each", entries, share / 10, True
    made = lambda: [np.sort(held[groups == name]) for name in range(GROUPS)]  # noqa: E731
    yield "100 groups, fit", lambda: GroupedCalibration.fit(held, groups), "mask, sort", made, 1, False
    twin = "mask, sort, searchsorted", lambda: by_group(held, s, groups), 1, True
    yield "100 groups, p-values", lambda: grouped.p_values(s, groups), *twin
    yield "Benjamini-Hochberg", lambda: select_fdr(p, Q, n_calibration=n).mask, "sort, compare", lambda: (
        benjamini_hochberg(p)
    ), 1, True  # fmt: skip
    kept = lambda: calibrate_blocks([held], DAY, unit="day", tie_rtol=0).threshold(BUDGET).value  # noqa: E731
    yield "budget of slots", kept, "reshape, max, partition", lambda: slot_budget(held), 1, True
    twin = "sort of windows", lambda: np.sort(views(held, 5), axis=1)[:, 2], 1, True
    yield "persistence, 3 of 5", lambda: Persistence(3, 5)(held)[4:], *twin
    sorted_few = lambda: np.sort(views(held[: WINDOW + FEW - 1], WINDOW), axis=1)[:, [100, 500]]  # noqa: E731
    yield "standardise, window 1000", lambda: rolling(held), "~ sort of windows", sorted_few, share, False
    ranked = lambda: [(past > one).mean() for one in s[:FEW]]  # noqa: E731
    yield "drift monitor", lambda: DriftMonitor(held[:1000]).update(s), "~ compare with all before", ranked, share, False


def fastest(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Seconds of the fastest of some calls, and what it gave."""
    seconds, result = [], None
    for _ in range(rounds):
        begin = perf_counter()
        result = call()
        seconds.append(perf_counter() - begin)
    return min(seconds), result


def main(n: int, rounds: int) -> None:
    """Print a row for each part."""
    rng = np.random.default_rng(0)
    held, s = rng.lognormal(size=n), rng.lognormal(size=n) * np.where(rng.random(n) < 0.02, 50, 1)  # 2 % anomalies
    print("| what | seconds | twin in NumPy | seconds | deepad / twin |\n" + "|---" * 5 + "|")
    for name, ours, words, twin, share, checked in parts(held, s):
        (mine, result), (plain, expected) = fastest(ours, rounds), fastest(twin, rounds)
        if checked and not np.allclose(np.atleast_1d(result)[: np.size(expected)], expected, rtol=1e-9, atol=0):
            raise SystemExit(f"{name} differs from its twin")
        print(f"| {name} | {mine:.3g} | {words} | {plain / share:.3g} | {mine * share / plain:.2g} |", flush=True)
    loaded = [name for name in ("torch", "sklearn", "pandas", "scipy.stats") if name in sys.modules]
    print(f"\n{n} scores calibrate, {n} are judged; imported of torch, sklearn, pandas, scipy.stats: {loaded or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
