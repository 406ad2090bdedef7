"""All ten held-out digits of MNIST for one model: mean and spread over seeds, beside the PCA floor.

Protocol: train on the official training images without digit c (a tenth validates, a tenth calibrates), test on the
official 10 000 test images, positive = c. One configuration for all digits; all scores of a model from one training.

    python scripts/mnist_held_out.py --model dense --seeds 0 1 2 --output docs/results/mnist-held-out-dense.csv
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from deepad import Scorer
from deepad.baselines import PCAResidual
from deepad.data import MNIST
from deepad.detectors import ConvolutionalAutoencoder, DenseAutoencoder, VariationalAutoencoder
from deepad.evaluation.metrics import evaluate

ERRORS = {"relative error": {"score": "relative"}, "error": {"score": "error"}}
NATS = {"relative probability": {"relative": True}, "probability": {"relative": False}}
WIDTHS = {"hidden_dims": (512, 256), "latent_dim": 8}
MODELS: dict[str, tuple[Any, dict[str, Any], int, dict[str, dict[str, Any]]]] = {  # chosen on training images only
    "dense": (DenseAutoencoder, WIDTHS, 20, ERRORS),
    "variational": (VariationalAutoencoder, {**WIDTHS, "beta": 0.05, "score": "probability"}, 10, NATS),
    "convolutional": (ConvolutionalAutoencoder, {"channels": (16, 32), "latent_dim": 8}, 10, ERRORS),
}


def cells(model: str, digit: int, seed: int, most: int | None) -> list[dict[str, object]]:
    """One row for each score of the model and the floor."""
    pl.seed_everything(seed)
    data = MNIST(held_out=digit, seed=seed)
    member, arguments, epochs, scores = MODELS[model]
    detector = member(data.shape, **arguments)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
        pl.Trainer(max_epochs=most or epochs, default_root_dir=folder, **quiet).fit(detector, data)
    state, rows = detector.state_arrays(), data.splits.train
    models = {f"{model}, {name}": member.from_state({**detector.hparams, **s}, state) for name, s in scores.items()}
    models["PCA-10 residual"] = PCAResidual(10).fit(rows.x[rows.index].numpy())
    table = []
    for name, chosen in models.items():
        scorer = Scorer.calibrate(chosen, data.calibration_dataloader())
        score = scorer(data.test_dataloader()).score
        for alpha in (0.05, 0.01):
            result = evaluate(scorer.judge(score, alpha=alpha), data.test_labels())
            at = {key: result["at_threshold"][key] for key in ("false_alarm_rate", "inside_law_99", "recall")}
            table.append({"model": name, "digit": digit, "seed": seed, "alpha": alpha, **result["ranking"], **at})
    return table


def main(model: str, digits: list[int], seeds: list[int], epochs: int | None, output: str) -> None:
    """Run every digit and seed, write the rows as they come, and print the table."""
    table: list[dict[str, object]] = []
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with open(output, "w", newline="") as file:
        for digit in digits:
            for seed in seeds:
                print(f"digit {digit}, seed {seed}", file=sys.stderr)
                table += (new := cells(model, digit, seed, epochs))
                writer = csv.DictWriter(file, new[0])
                if len(table) == len(new):
                    writer.writeheader()
                writer.writerows(new)
                file.flush()
    print("| model | metric |", *(f" {digit} |" for digit in digits), " mean | spread over seeds |")
    print("|---|---|" + "---|" * (len(digits) + 2))
    for name in dict.fromkeys(row["model"] for row in table):
        for metric in ("auroc", "average_precision"):
            grid = np.array([[next(float(str(row[metric])) for row in table if (row["model"], row["digit"], row["seed"])
                                   == (name, digit, seed)) for digit in digits] for seed in seeds])  # fmt: skip
            means = grid.mean(1)
            print(f"| {name} | {metric} |", *(f" {value:.3f} |" for value in grid.mean(0)),
                  f" {means.mean():.3f} | {means.min():.3f} to {means.max():.3f} |")  # fmt: skip
    for alpha in (0.05, 0.01):
        inside = [row["inside_law_99"] for row in table if row["alpha"] == alpha]
        print(f"alpha {alpha}: {sum(map(bool, inside))} of {len(inside)} false-alarm counts inside the 99 % law")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="dense")
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the model's own")
    parser.add_argument("--output", default="docs/results/mnist-held-out-dense.csv")
    main(**vars(parser.parse_args()))
