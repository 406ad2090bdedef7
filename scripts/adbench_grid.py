"""False alarms on the tables of ADBench: is each count inside the exact 99 % range of its threshold?

For each set and seed the normal rows are dealt at random into rows that train (40 %), stop the training (10 %),
calibrate (25 %) and are judged (25 %); anomalies enter the AUROC and nothing else. Two models, three levels, one
configuration for all sets. A level that the calibration rows cannot promise is refused and counted as such. Beside it
the usual recipe on the same scores: a percentile of the scores of the rows that trained is the threshold.

    DEEPAD_DATA=... python scripts/adbench_grid.py --output docs/results/adbench-grid.csv
"""

import argparse
import csv
import os
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from deepad.data import Table
from deepad.detectors import DenseAutoencoder
from deepad.errors import InsufficientCalibrationError
from deepad.scoring.conformal import Calibration

ALPHAS, MODELS = (0.1, 0.05, 0.01), ("dense autoencoder", "isolation forest")
COLUMNS = "set model seed trained dropped n m distinct auroc alpha k alarms low high outcome needed percentile_alarms"


def scores(model: str, data: Table) -> list[np.ndarray]:
    """Scores of the rows that trained, that calibrate and that are judged."""
    splits = data.splits
    parts = [rows.x[rows.index] for rows in (splits.train, splits.calibration, splits.test)]
    if model == "isolation forest":
        forest = IsolationForest(random_state=data.seed).fit(parts[0].numpy())
        return [-forest.score_samples(part.numpy()) for part in parts]
    torch.manual_seed(data.seed)
    detector = DenseAutoencoder(data.shape, hidden_dims=(128, 64), latent_dim=32, noise=0.3)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
        most = min(50, len(data.train_dataloader()))  # batches an epoch, so that large sets end
        pl.Trainer(max_epochs=40, limit_train_batches=most, default_root_dir=folder, **quiet).fit(detector, data)
    with torch.inference_mode():
        return [detector.score(part).numpy() for part in parts]


def runs(name: str, model: str, seed: int) -> list[dict[str, Any]]:
    """One row for each alpha."""
    path, quarter = f"adbench/{name}.npz", {"calibration_size": 0.25, "test_size": 0.25}
    data = Table(path, label="y", batch_size=64, seed=seed, **quarter)
    y = data.test_labels()
    trained, held, judged = scores(model, data)
    calibration, test = Calibration.fit(held), judged[y == 0]
    about = {"set": name, "model": model, "seed": seed, "trained": len(trained), "dropped": data.dropped}
    about |= {"n": len(held), "m": len(test), "auroc": round(roc_auc_score(y, judged), 4)}
    about["distinct"] = round(len(np.unique(np.r_[held, test])) / (len(held) + len(test)), 4)
    table = []
    for alpha in ALPHAS:
        row = {**about, "alpha": alpha, "percentile_alarms": (test > np.quantile(trained, 1 - alpha)).sum()}
        try:
            threshold = calibration.threshold(alpha)
        except InsufficientCalibrationError as error:
            table.append({**row, "outcome": "refused", "needed": error.needed})
            continue
        alarms, (low, high) = threshold.flag(test).sum(), threshold.guarantee.future_alarms(len(test), level=0.99)
        outcome = "above" if alarms > high else "below" if alarms < low else "inside"
        table.append({**row, "k": threshold.k, "alarms": alarms, "low": low, "high": high, "outcome": outcome})
    return table


def main(only: list[str], seeds: list[int], output: str) -> None:
    """Write one row for each run as it comes, and print the outcomes of each set."""
    names = only or [path.stem for path in Path(os.environ["DEEPAD_DATA"], "adbench").glob("*.npz")]
    table: list[dict[str, Any]] = []
    with open(output, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS.split())
        writer.writeheader()
        for name in sorted(names, key=lambda name: int(name.split("_")[0])):
            table += (new := [row for model in MODELS for seed in seeds for row in runs(name, model, seed)])
            writer.writerows(new)
            print(name, dict(Counter(row["outcome"] for row in new)), flush=True)
    for model, alpha in product(MODELS, ALPHAS):
        same = [row for row in table if (row["model"], row["alpha"]) == (model, alpha)]
        kept = [[row["alarms"] / row["m"], row["percentile_alarms"] / row["m"]] for row in same if "alarms" in row]
        rate, recipe = np.mean(kept, 0)
        print(model, alpha, dict(Counter(row["outcome"] for row in same)), f"rate {rate:.2%}, percentile {recipe:.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="names of sets; all if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", default="docs/results/adbench-grid.csv")
    main(**vars(parser.parse_args()))
