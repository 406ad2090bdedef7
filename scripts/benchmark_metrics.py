"""How long do the metrics take? VUS and the metrics of series at 100 000 steps, the bootstrap beside a plain loop.

The plain sides are what one would write first: VUS as its definition reads, a threshold and a buffer at a time; the
bootstrap as resampled rows given to scikit-learn. Both sides see the same data in one process and take turns; VUS is
compared on fewer steps, buffers and thresholds, for the plain side's sake.

    python scripts/benchmark_metrics.py
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import auc, roc_auc_score

from deepad.evaluation.bootstrap import interval
from deepad.evaluation.series_metrics import evaluate_series
from deepad.evaluation.vus import vus


def series(n: int, events: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n,) and labels (n,) with so many events."""
    rng = np.random.default_rng(0)
    y = np.zeros(n, int)
    for begin in rng.choice(n - length, events, replace=False):
        y[begin : begin + length] = 1
    return rng.normal(size=n) + y, y


def plain_vus(score: np.ndarray, y: np.ndarray, buffer: int, thresholds: int) -> float:
    """The area under the ROC surface, a buffer and a threshold at a time, as `deepad.evaluation.vus` defines it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], y, [0]])))
    events = list(zip(edges[::2], edges[1::2] - 1, strict=True))
    cuts = np.sort(score)[::-1][np.linspace(0, len(score) - 1, thresholds).astype(int)]
    areas = []
    for width in range(buffer + 1):
        soft, groups = y.astype(float), []
        for begin, end in events:
            low, high = begin - width // 2, end + width // 2
            if groups and low <= groups[-1][1]:
                groups[-1][1] = high
            else:
                groups.append([low, high])
            for step in range(max(low, 0), min(high + 1, len(y))):
                if not y[step]:
                    gap = begin - step if step < begin else step - end
                    soft[step] = min(1.0, soft[step] + np.sqrt(1 - gap / width))
        points = [(0.0, 0.0)]
        for cut in cuts:
            flagged = score >= cut
            hit = np.mean([flagged[max(low, 0) : high + 1].any() for low, high in groups])
            true = (soft * flagged).sum()
            positive = y.sum() + (true - y[flagged].sum()) / 2
            false = flagged.sum() - true
            points.append((false / (len(y) - positive), min(true / positive, 1.0) * hit))
        x, z = np.array([*points, (1.0, 1.0)]).T
        areas.append(auc(x, z))
    return float(np.mean(areas))


def plain_bootstrap(score: np.ndarray, y: np.ndarray, draws: int) -> np.ndarray:
    """AUROC of resampled rows, a draw at a time."""
    rng, normal, odd = np.random.default_rng(0), np.flatnonzero(y == 0), np.flatnonzero(y)
    found = []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(normal, len(normal)), rng.choice(odd, len(odd))])
        found.append(roc_auc_score(y[rows], score[rows]))
    return np.quantile(found, [0.025, 0.975])


def seconds(function: Callable[[], object], rounds: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def main(steps: int, rounds: int) -> None:
    """Print a table."""
    score, y = series(steps, 100, 50)
    flagged = score > np.quantile(score, 0.99)
    small, labels = series(3000, 10, 50)
    print("| what | seconds | plain loop | ratio |\n|---|---|---|---|")
    whole = seconds(lambda: vus(score, y, 125), rounds)
    print(f"| VUS, {steps} steps, buffer 125, 250 thresholds | {whole:.3f} | | |")
    events = seconds(lambda: evaluate_series([score], [flagged], [y], seconds=60), rounds)
    print(f"| all metrics of series, {steps} steps | {events:.3f} | | |")
    found, expected = vus(small, labels, 10, 50).roc, plain_vus(small, labels, 10, 50)
    if abs(found - expected) > 1e-9:
        raise SystemExit(f"the plain loop finds another area, {expected} instead of {found}")
    ours, plain = (seconds(f, rounds) for f in
                   (lambda: vus(small, labels, 10, 50), lambda: plain_vus(small, labels, 10, 50)))  # fmt: skip
    print(f"| VUS, 3000 steps, buffer 10, 50 thresholds | {ours:.4f} | {plain:.3f} | {plain / ours:.0f} |")
    rows = slice(0, 10_000)
    fast = seconds(lambda: interval(y[rows], score[rows], "auroc", draws=200), rounds)
    slow = seconds(lambda: plain_bootstrap(score[rows], y[rows], 200), rounds)
    print(f"| bootstrap of AUROC, 10 000 rows, 200 draws | {fast:.3f} | {slow:.3f} | {slow / fast:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
