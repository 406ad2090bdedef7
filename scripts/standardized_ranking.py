"""Do scores of steps rank anomalies better once level and spread of the steps before are taken out? NAB and SKAB.

    DEEPAD_DATA=... python scripts/standardized_ranking.py --output docs/results/standardized-ranking.csv

The first part of a recording (NAB: before the first anomaly, as TSB-AD has it; SKAB: 400 s) fits a PCA on windows of
scaled channels and calibrates a nominal 5 %; the rest is judged. Rolling windows run over the whole recording.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from sklearn.metrics import average_precision_score, roc_auc_score

from deepad.baselines import PCAResidual
from deepad.data.windows import StepRule, windows_of
from deepad.scoring.conformal import Calibration
from deepad.scoring.standardize import RollingStandardize
from deepad.scoring.steps import score_series

SIZE, ALPHA, WINDOWS = 24, 0.05, (0, 100, 300, 1000)


def recordings(folder: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, int]]:
    """Set, name, steps (n, C), which of them are anomalous, and how many come before those that are judged."""
    windows = json.loads((folder / "nab/labels/combined_windows.json").read_text())
    for path in sorted((folder / "nab/data").glob("*/*.csv")):
        frame, name = pd.read_csv(path, parse_dates=["timestamp"]), f"{path.parent.name}/{path.name}"
        between = [frame.timestamp.between(*map(pd.Timestamp, window)) for window in windows[name]]
        odd = np.any([np.zeros(len(frame), bool), *between], axis=0)
        yield "NAB", name, frame[["value"]].to_numpy(float), odd, max(500, min(len(odd) // 4, int(odd.argmax()) - 100))
    for path in sorted((folder / "skab/valve1").glob("*.csv")):
        frame = pd.read_csv(path, sep=";")
        yield "SKAB", path.name, frame.iloc[:, 1:9].to_numpy(float), frame.anomaly.to_numpy() == 1, 400


def ranked(x: np.ndarray, odd: np.ndarray, end: int) -> Iterator[dict[str, float]]:
    """A row for each rolling window, 0 for raw scores; AUROC and AP also of the raw scores of the same steps."""
    if odd[:end].any() or not odd[end + SIZE :].any():
        return
    cut = 6 * end // 10  # before it fits, then calibrates
    x = ((x - x[:cut].mean(0)) / np.maximum(x[:cut].std(0), 1e-9)).astype(np.float32)
    raw = score_series(PCAResidual(10, scaling="none").fit(windows_of(x[:cut], SIZE)), StepRule(SIZE, "window"), x)
    for window in WINDOWS:
        scores = RollingStandardize(window)(raw) if window else raw
        held, judged = scores[cut + SIZE - 1 : end], ~np.isnan(scores) & (np.arange(len(x)) >= end + SIZE)
        y, held, row = odd[judged], held[~np.isnan(held)], {"window": window, "judged": judged[end + SIZE :].mean()}
        if 0 < y.sum() < len(y):
            for name, s in (("raw ", raw[judged]), ("", scores[judged])):
                row |= {f"{name}AUROC": roc_auc_score(y, s), f"{name}AP": average_precision_score(y, s)}
            if len(held) >= 1 / ALPHA:
                flagged = Calibration.fit(held).threshold(ALPHA).flag(scores[judged])
                row |= {"false alarms": flagged[~y].mean(), "recall": flagged[y].mean()}
        yield row


def main(output: Path, only: str) -> None:
    """Write a row for each recording and window; print means, and Wilcoxon's test of AUROC against raw scores."""
    rows = [
        {"set": group, "recording": name, **row}
        for group, name, *rest in recordings(Path(os.environ["DEEPAD_DATA"])) if only in name
        for row in ranked(*rest)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(output, index=False, float_format="%.4f")
    print("| set | window | recordings | AUROC (raw) | p | AP (raw) | false alarms | recall |\n" + "|---" * 8 + "|")
    for (group, window), some in table.groupby(["set", "window"]):
        judged = some.dropna(subset=["AUROC"])
        if len(judged) == 0:
            print(f"| {group} | {window} | 0: {some.judged.mean():.0%} of the steps have a score | | | | | |")
            continue
        mean, change = judged.mean(numeric_only=True), judged.AUROC - judged["raw AUROC"]
        p = f"{wilcoxon(change).pvalue:.2g}, {(change > 0).sum()} better" if change.any() else ""
        both = [f"{mean[name]:.3f} ({mean[f'raw {name}']:.3f})" for name in ("AUROC", "AP")]
        rated = "" if judged.recall.notna().all() else f" (of {judged.recall.count()})"  # too short to calibrate
        rates = [f"{mean[name]:.1%}{rated}" for name in ("false alarms", "recall")]
        print(f"| {group} | {window or 'raw'} | {len(judged)} | {both[0]} | {p} | {both[1]} | {' | '.join(rates)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/results/standardized-ranking.csv"))
    parser.add_argument("--only", default="", help="recordings whose name holds this")
    main(**vars(parser.parse_args()))
