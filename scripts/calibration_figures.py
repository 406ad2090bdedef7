"""Figures and tables of docs/calibration.md that follow from exact laws; the grey histograms check one by simulation.

python scripts/calibration_figures.py --output docs/figures
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri
from scipy.stats import beta

from deepad.report.figures import ANOMALY, LINE, NORMAL
from deepad.scoring.conformal import Calibration
from deepad.scoring.display import false_alarm_floor
from deepad.scoring.promise import guaranteed_rank, required_n

PLAIN = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8}
SIZE = {"figsize": (7, 3), "layout": "constrained", "dpi": 120}
KINDS = {"marginal": {}, "PAC": {"kind": "pac", "delta": 0.05}, "simultaneous": {"kind": "simultaneous", "delta": 0.05}}
STYLES, SHARES, ALPHAS = ((NORMAL, "-"), (ANOMALY, "--"), (LINE, "-.")), (0.1, 0.01, 0.001), (0.05, 0.01, 0.001)


def table(title: str, rows: list) -> None:
    """Print a table of Markdown."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    print(f"\n{title}\n|{'---|' * (title.count('|') - 1)}", *lines, sep="\n")


def p_value(figure: Figure) -> None:
    """The least share of false alarms by p-value."""
    axes, p = figure.subplots(), np.geomspace(1e-5, 1, 400)
    for share, (colour, dash) in zip(SHARES, STYLES, strict=True):
        floor = 100 * false_alarm_floor(p, share)
        axes.plot(p, floor, dash, color=colour, label=f"{100 * share:g} % of all samples are anomalies")
    axes.plot(p, 100 * p, ":", color="grey", label="what p is often taken for")
    axes.set(xlabel="p-value of a sample", ylabel="least share of false alarms, %", xscale="log", ylim=(0, 102))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def precision(figure: Figure, m: int = 1000, q: float = 0.1) -> None:
    """Share of flags that are anomalies, by prevalence; the smallest selection from a batch, by calibration scores."""
    left, right = figure.subplots(1, 2)
    prevalence, n, rows = np.geomspace(1e-4, 0.5, 300), np.geomspace(10, 1e5, 500), []
    for alpha, (colour, dash) in zip(ALPHAS, STYLES, strict=True):
        recall = ndtr(3 + ndtri(alpha))  # of normal scores N(0, 1) and anomalies N(3, 1)
        shares = np.concatenate([prevalence, SHARES])
        found = 100 * shares * recall / (shares * recall + (1 - shares) * alpha)
        left.plot(prevalence, found[:300], dash, color=colour, label=f"alpha = {100 * alpha:g} %")
        rows.append((f"{100 * alpha:g} %", f"{100 * recall:.0f} %", *(f"{share:.1f} %" for share in found[300:])))
    left.set(xlabel="share of anomalies among all samples", ylabel="anomalies among flags, %", xscale="log")
    left.legend()
    right.plot(n, np.ceil(m / (q * (np.floor(n) + 1))), color=NORMAL)
    right.set(xlabel="calibration scores", ylabel=f"fewest selected of {m} samples", xscale="log", yscale="log")
    table("| alpha | recall | anomalies are 10 % of samples | 1 % | 0.1 % |", rows)


def promises(figure: Figure, alpha: float = 0.1, draws: int = 4000) -> None:
    """Law of the realised rate over calibration draws, with the rank of each kind."""
    rng, rate, rows = np.random.default_rng(0), np.linspace(1e-4, 0.2, 500), []
    for n, axes in zip((100, 1000), figure.subplots(1, 2), strict=True):
        drawn = [Calibration.fit(rng.exponential(size=n)).threshold(alpha).value for _ in range(draws)]
        axes.hist(100 * np.exp(-np.array(drawn)), 40, density=True, color="0.87")  # the rate of exponential scores
        for (name, how), (colour, dash) in zip(KINDS.items(), STYLES, strict=True):
            k, _ = guaranteed_rank(alpha, n, **how)
            law = beta(k, n + 1 - k)
            axes.plot(100 * rate, law.pdf(rate) / 100, dash, color=colour, label=f"{name}, k = {k}")
            (low, high), above = 100 * np.array(law.interval(0.95)), 100 * law.sf(alpha)
            rows.append((n, name, k, f"{100 * law.mean():.2f} %", f"{low:.1f} % to {high:.1f} %", f"{above:.2g} %"))
        axes.axvline(100 * alpha, ymax=0.7, color="grey", linewidth=1)
        axes.set(xlabel="realised false-alarm rate, %", ylabel="density, per %", xlim=(0, 20), title=f"n = {n}")
        axes.set_ylim(top=1.4 * axes.get_ylim()[1])
        axes.legend()
    table("| n | kind | rank k | mean rate | 95 % of calibration draws | draws with a rate above 10 % |", rows)


def needed(figure: Figure) -> None:
    """The smallest calibration set by level and kind."""
    axes, levels = figure.subplots(), np.geomspace(1e-5, 0.2, 60)
    for (name, how), (colour, dash) in zip(KINDS.items(), STYLES, strict=True):
        axes.plot(100 * levels, [required_n(alpha, **how) for alpha in levels], dash, color=colour, label=name)
    axes.plot([0.001, 2], [2500, 2500], ":", color="grey", label="fitted tail, no promise")
    axes.set(xlabel="alpha, %", ylabel="calibration scores needed", xscale="log", yscale="log")
    axes.legend()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    folder = parser.parse_args().output
    with rc_context(PLAIN):
        for name, draw in {"p-value": p_value, "precision": precision, "promises": promises, "needed": needed}.items():
            draw(figure := Figure(**SIZE))
            figure.savefig(folder / f"{name}.png")
