"""Figure and table of docs/calibration.md about rules of thumb: what they are said to flag, proved to flag, and do.

python scripts/calibration_rules.py --output docs/figures
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import chi2

from deepad.report.figures import ANOMALY, LINE, NORMAL
from deepad.scoring.conformal import Calibration
from deepad.scoring.rules import IQR, MAD, Percentile, Sigma, certified

PLAIN = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8}
SIZE = {"figsize": (7, 2.4), "layout": "constrained", "dpi": 120}


def table(title: str, rows: list) -> None:
    """Print a table of Markdown."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    print(f"\n{title}\n|{'---|' * (title.count('|') - 1)}", *lines, sep="\n")


def rules(axes: Axes) -> None:
    """What rules of thumb are certified to flag, beside what they are said to and what they do."""
    rng, rows = np.random.default_rng(3), []
    calibration, other = Calibration.fit(rng.chisquare(1, 1000)), rng.chisquare(1, 2000)
    for place, rule in enumerate(chosen := (Sigma(3), IQR(1.5), MAD(3.5), Percentile(99))):
        threshold = certified(rule, calibration, fit_scores=other)
        proved, true = threshold.certificate, chi2(1).sf(threshold.value)
        axes.plot(
            [100 * proved.lower, 100 * proved.upper],
            [place] * 2,
            color=NORMAL,
            linewidth=6,
            alpha=0.5,
            solid_capstyle="butt",
        )
        axes.plot(100 * rule.nominal, place, "x", color=ANOMALY)
        axes.plot(100 * true, place, ".", color=LINE)
        said, low, high, rate = (f"{100 * x:.3g} %" for x in (rule.nominal, proved.lower, proved.upper, true))
        rows.append((f"`{rule}`", said, f"{low} to {high}", rate))
    axes.set(
        xscale="log",
        xlabel="normal samples flagged, %",
        yticks=range(4),
        ylim=(-0.5, 3.5),
        yticklabels=map(str, chosen),
    )
    axes.legend(["certified range", "said to flag", "flags"], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    table("| rule | said to flag | certified range | flags |", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    with rc_context(PLAIN):
        figure = Figure(**SIZE)
        rules(figure.subplots())
        figure.savefig(parser.parse_args().output / "rules.png")
