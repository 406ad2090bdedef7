"""Seconds of calibration and of decisions for a million scores, beside the same in plain NumPy, without torch.

Each part runs a few times, the fastest counts. The twins are what one writes with NumPy in a few lines; those marked
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
    return p <= np.max(ordered[ordered <= Q * np.arange(1, len(p) + 1) / len(p)], initial=0)


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
    maxima, k = held[: days * DAY.length].reshape(-1, DAY.slot).max(1), int(BUDGET * (days + 1) - DAY.slots) + 1
    return float(np.partition(maxima, -k)[-k])


def parts(held: np.ndarray, s: np.ndarray) -> Iterator[Part]:
    """What deepad does and its twin, for n scores that calibrate and as many that are judged."""
    n, share, groups, rolling = len(held), FEW / len(held), np.arange(len(held)) % GROUPS, RollingStandardize(WINDOW)
    exact, few = (Calibration.fit(part, tie_rtol=0) for part in (held, held[:1000]))
    threshold, tolerant = exact.threshold(ALPHA), Calibration.fit(held).threshold(ALPHA)
    grouped, p, past = GroupedCalibration.fit(held, groups, tie_rtol=0), exact.p_values(s), held[: n // 2]
    yield "fit", lambda: Calibration.fit(held).scores, "sort", lambda: np.sort(held), 1, True
    yield ("p-values", lambda: exact.p_values(s),
           "searchsorted", lambda: (1 + n - np.searchsorted(exact.scores, s)) / (n + 1), 1, True)  # fmt: skip
    yield ("p-values", lambda: exact.p_values(s), "~ compare with each",
           lambda: np.array([(1 + (held >= one).sum()) / (n + 1) for one in s[:FEW]]), share, True)  # fmt: skip
    yield ("p-values, 1000 calibrate", lambda: few.p_values(s),
           "searchsorted", lambda: (1001 - np.searchsorted(few.scores, s)) / 1001, 1, True)  # fmt: skip
    yield ("fit, threshold, flag", lambda: Calibration.fit(held).threshold(ALPHA).flag(s),
           "quantile, >", lambda: s > np.quantile(held, 1 - ALPHA), 1, False)  # fmt: skip
    yield "flag", lambda: threshold.flag(s), ">", lambda: s > threshold.value, 1, True
    yield "flag, ties tolerated", lambda: tolerant.flag(s), ">", lambda: s > tolerant.value, 1, False
    yield ("envelope", lambda: exact.envelope(DELTA), "~ product for each",
           lambda: np.array([envelope_entry(n, k) for k in range(1, FEW + 1)]), share, True)  # fmt: skip
    yield (f"{GROUPS} groups, fit", lambda: GroupedCalibration.fit(held, groups),
           "mask, sort", lambda: [np.sort(held[groups == name]) for name in range(GROUPS)], 1, False)  # fmt: skip
    yield (f"{GROUPS} groups, p-values", lambda: grouped.p_values(s, groups),
           "mask, sort, searchsorted", lambda: by_group(held, s, groups), 1, True)  # fmt: skip
    yield ("Benjamini-Hochberg", lambda: select_fdr(p, Q, n_calibration=n).mask,
           "sort, compare", lambda: benjamini_hochberg(p), 1, True)  # fmt: skip
    yield ("budget of slots", lambda: calibrate_blocks([held], DAY, unit="day").threshold(BUDGET).value,
           "reshape, max, partition", lambda: slot_budget(held), 1, True)  # fmt: skip
    yield ("persistence, 3 of 5", lambda: Persistence(3, 5)(held)[4:],
           "sort of windows", lambda: np.sort(views(held, 5), axis=1)[:, 2], 1, True)  # fmt: skip
    yield (f"standardise, window {WINDOW}", lambda: rolling(held), "~ sort of windows",
           lambda: np.sort(views(held[: WINDOW + FEW - 1], WINDOW), axis=1)[:, [100, 500]], share, False)  # fmt: skip
    yield ("drift monitor", lambda: DriftMonitor(held[:1000]).update(s).stale,
           "~ compare with all before", lambda: [(past > one).mean() for one in s[:FEW]], share, False)  # fmt: skip


def fastest(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Seconds of the fastest of some calls, and what it gave."""
    runs = [(perf_counter(), call(), perf_counter()) for _ in range(rounds)]
    return min(end - begin for begin, _, end in runs), runs[-1][1]


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
    print(
        f"\n{n} scores calibrate, {n} are judged; imported of torch, sklearn, pandas, scipy.stats: {loaded or 'none'}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
