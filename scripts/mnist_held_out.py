"""All ten held-out digits of MNIST: one table with mean and spread over seeds, beside the PCA floor.

Protocol: train on the official training images without digit c (a tenth validates, a tenth calibrates), test on the
official 10 000 test images, positive = c. One fixed configuration for all digits. Both scores come from one training.

    python scripts/mnist_held_out.py --seeds 0 1 2 --output docs/results/mnist-held-out.csv
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.data import MNIST
from deepad.detectors import DenseAutoencoder
from deepad.evaluation.metrics import evaluate

NETWORK = {"hidden_dims": (512, 256), "latent_dim": 8}  # chosen on official training images of 0, 2, 5 and 8


def cells(digit: int, seed: int, epochs: int) -> list[dict[str, object]]:
    """One row a model: the plain error, the relative error and the floor."""
    pl.seed_everything(seed)
    data = MNIST(held_out=digit, seed=seed)
    detector = DenseAutoencoder(data.shape, score="relative", **NETWORK)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
        pl.Trainer(max_epochs=epochs, default_root_dir=folder, **quiet).fit(detector, data)
    plain = DenseAutoencoder.from_state({**detector.hparams, "score": "error"}, detector.state_arrays())
    rows = data.splits.train
    floor = PCAResidual(10).fit(rows.x[rows.index].numpy())
    models = {"dense, relative error": detector, "dense, error": plain, "PCA-10 residual": floor}
    table = []
    for name, model in models.items():
        scorer = Scorer.calibrate(model, data.calibration_dataloader())
        for alpha in (0.05, 0.01):
            result = evaluate(scorer(data.test_dataloader(), alpha=alpha), data.test_labels())
            at = {key: result["at_threshold"][key] for key in ("false_alarm_rate", "inside_law_99", "recall")}
            table.append({"model": name, "digit": digit, "seed": seed, "alpha": alpha, **result["ranking"], **at})
    return table


def main(digits: list[int], seeds: list[int], epochs: int, output: str) -> None:
    """Run every digit and seed, write the rows as they come, and print the table."""
    table: list[dict[str, object]] = []
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with open(output, "w", newline="") as file:
        for digit in digits:
            for seed in seeds:
                print(f"digit {digit}, seed {seed}", file=sys.stderr)
                table += (new := cells(digit, seed, epochs))
                writer = csv.DictWriter(file, new[0])
                if len(table) == len(new):
                    writer.writeheader()
                writer.writerows(new)
                file.flush()
    print("| model | metric |", *(f" {digit} |" for digit in digits), " mean | spread over seeds |")
    print("|---|---|" + "---|" * len(digits) + "---|---|")
    for model in dict.fromkeys(row["model"] for row in table):
        for metric in ("auroc", "average_precision"):
            grid = np.array([[next(float(str(row[metric])) for row in table if (row["model"], row["digit"], row["seed"])
                                   == (model, digit, seed)) for digit in digits] for seed in seeds])  # fmt: skip
            means = grid.mean(1)
            print(f"| {model} | {metric} |", *(f" {value:.3f} |" for value in grid.mean(0)),
                  f" {means.mean():.3f} | {means.min():.3f} to {means.max():.3f} |")  # fmt: skip
    for alpha in (0.05, 0.01):
        inside = [row["inside_law_99"] for row in table if row["alpha"] == alpha]
        print(f"alpha {alpha}: {sum(map(bool, inside))} of {len(inside)} false-alarm counts inside the 99 % law")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", default="docs/results/mnist-held-out.csv")
    main(**vars(parser.parse_args()))
