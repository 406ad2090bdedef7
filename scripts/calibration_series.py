"""Figures and tables of docs/calibration.md about series: dependence, blocks and drift, all simulated.

python scripts/calibration_series.py --output docs/figures
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import lfilter
from scipy.special import ndtr
from scipy.stats import beta

from deepad.report.figures import ANOMALY, LINE, NORMAL
from deepad.scoring.conformal import Calibration
from deepad.scoring.drift import DriftMonitor
from deepad.scoring.events import Blocks, calibrate_blocks
from deepad.scoring.standardize import RollingStandardize

PLAIN = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8}
STYLES = ((NORMAL, "-"), (ANOMALY, "--"), (LINE, "-."))


def table(title: str, rows: list) -> None:
    """Print a table of Markdown."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    print(f"\n{title}\n|{'---|' * (title.count('|') - 1)}", *lines, sep="\n")


def series(rng: np.random.Generator, rho: float, *shape: int) -> np.ndarray:
    """AR(1) along the last axis, each value N(0, 1), neighbours with correlation rho."""
    noise = rng.normal(size=shape)
    noise[..., 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise)


def dependence(axes: Axes, draws: int) -> None:
    """Realised rates over draws of a calibration set that is a series of 1000 steps, at 1 %."""
    rng, rows, grid = np.random.default_rng(0), [], np.geomspace(1e-4, 0.5, 300)
    law, left = beta(10, 991), 100 * (1 - (np.arange(draws) + 0.5) / draws)
    axes.plot(100 * grid, 100 * law.sf(grid), color="0.75", linewidth=5, label="Beta law")
    rows.append(("Beta law", f"{100 * law.mean():.2f} %", f"{100 * law.std():.2f} %", f"{100 * law.sf(0.02):.1f} %"))
    for rho, (colour, dash) in zip((0.0, 0.9, 0.99), STYLES, strict=True):
        drawn = [Calibration.fit(scores).threshold(0.01).value for scores in series(rng, rho, draws, 1000)]
        rate = 100 * ndtr(-np.array(drawn))
        axes.plot(np.sort(rate), left, dash, color=colour, label=f"correlation {rho:g}")
        rows.append((f"{rho:g}", f"{rate.mean():.2f} %", f"{rate.std():.2f} %", f"{100 * (rate > 2).mean():.1f} %"))
    axes.set(xlabel="realised rate, %", ylabel="draws with a higher rate, %", xscale="log", xlim=(0.05, 50))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    table("| correlation of neighbours | mean rate | standard deviation | draws with a rate above 2 % |", rows)


def blocks(draws: int) -> None:
    """Alarmed slots of a new block, after calibration on 39 blocks of 250 steps."""
    rng, rows = np.random.default_rng(1), []
    for slot, budget in ((250, 0.1), (25, 1.0), (25, 2.0)):
        cut, found = Blocks(250, slot), []
        for scores in (series(rng, 0.95, 40 * 250) for _ in range(draws)):
            threshold = calibrate_blocks([scores[:-250]], cut, unit="block").threshold(budget)
            found.append(cut.alarmed_slots([threshold.flag(scores[-250:])]).sum())
        rows.append((cut.slots, f"{budget:g}", f"{np.mean(found):.2f} ± {np.std(found) / np.sqrt(draws):.2f}"))
    table("| slots of a block | budget | alarmed slots of a new block |", rows)


def drift(axes: Axes, runs: int) -> None:
    """False alarms while scores drift, by a threshold that was frozen at 1 %, on them and on standardised ones."""
    rng, step, stale, rows = np.random.default_rng(2), np.arange(40_000), [], []
    outage, level = (step // 200 == 125), np.interp(step, [15_000, 35_000], [0, 3])
    flagged = np.empty((2, runs, len(step)))
    for run in range(runs):
        raw = rng.normal(size=len(step)) + level + 8 * outage
        stale.append(6000 + DriftMonitor(raw[1000:6000], run_length=1e6).update(raw[6000:]).since)
        for place, scores in enumerate((raw, RollingStandardize(1000)(raw))):
            flagged[place, run] = Calibration.fit(scores[1000:6000]).threshold(0.01).flag(scores)
    for name, shares, (colour, dash) in zip(("frozen", "standardised"), 100 * flagged.mean(1), STYLES, strict=False):
        normal = np.where(outage, np.nan, shares)
        axes.plot(np.arange(6.5, 40), np.nanmean(normal[6000:].reshape(-1, 1000), 1), dash, color=colour, label=name)
        told = [np.nanmean(part) for part in np.split(normal, [6000, 15_000, 35_000])[1:]]
        rows.append((name, *(f"{share:.1f} %" for share in (*told, shares[outage].mean()))))
    axes.axvline(np.median(stale) / 1000, color="grey", linestyle=":", label="calibration found stale")
    axes.set(xlabel="step, thousands", ylabel="false alarms, %", yscale="log")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    table("| scores | before the drift | during | after | flagged in the outage |", rows)
    print(f"\nfound stale at step {min(stale)} to {max(stale)}, median {np.median(stale):.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    with rc_context(PLAIN):
        left, right = (figure := Figure(figsize=(7, 3), layout="constrained", dpi=120)).subplots(1, 2)
        dependence(left, options.draws)
        drift(right, options.draws // 100)
        figure.savefig(options.output / "series.png")
        blocks(options.draws)
