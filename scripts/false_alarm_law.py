"""The law of false alarms on real scores: thousands of random splits of one pool against BetaBinomial(m, k, n + 1 - k).

A model fitted on a third of the normal rows scores the others, the pool, once. These scores are split at random into n
that calibrate and m that are judged, thousands of times, and a chi-square test compares the counts with the law. Beside
it the usual recipe: a percentile of the scores of the rows that trained is the threshold. The law is for scores without
ties: equal rows, then equal scores of the pool, are kept once, and the tolerance of ties is off.

    DEEPAD_DATA=... python scripts/false_alarm_law.py --output docs/results/false-alarm-law.csv
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from scipy.stats import betabinom, chisquare
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest
from torch.utils.data import DataLoader

from deepad.detectors import DenseAutoencoder
from deepad.scoring.conformal import Calibration

ALPHAS, SPLITS, EPOCHS = (0.1, 0.05, 0.01), 4000, 60
NORMAL = {"digits": (load_digits, [0, 1, 2, 3, 4]), "breast_cancer": (load_breast_cancer, [1])}  # classes


def normal_rows(name: str) -> np.ndarray:
    """Distinct normal rows (N, D) as float32."""
    if name in NORMAL:
        held, normal = NORMAL[name][0](), NORMAL[name][1]
        return np.unique(held.data[np.isin(held.target, normal)].astype(np.float32), axis=0)
    with np.load(f"{os.environ['DEEPAD_DATA']}/adbench/{name}.npz") as held:
        return np.unique(held["X"][held["y"] == 0].astype(np.float32), axis=0)


def scores(name: str, model: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the rows that trained and of the pool; a fifth of the third stops the training of the autoencoder."""
    x = np.random.default_rng(seed).permutation(normal_rows(name))
    val, train, pool = np.split(x, [len(x) // 15, len(x) // 3])
    if model == "isolation forest":
        forest = IsolationForest(random_state=seed).fit(train)
        return -forest.score_samples(train), -forest.score_samples(pool)
    torch.manual_seed(seed)
    detector = DenseAutoencoder(x.shape[1:], hidden_dims=(128, 64), latent_dim=32, noise=0.3)
    loaders = DataLoader(torch.from_numpy(train), 128, shuffle=True), DataLoader(torch.from_numpy(val), 128)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
        pl.Trainer(max_epochs=EPOCHS, default_root_dir=folder, **quiet).fit(detector, *loaders)
    with torch.inference_mode():
        return detector.score(torch.from_numpy(train)).numpy(), detector.score(torch.from_numpy(pool)).numpy()


def cells(name: str, model: str, seed: int) -> Iterator[dict[str, object]]:
    """One row for each alpha; every count goes through the public classes."""
    trained, pool = scores(name, model, seed)
    rng, mixed, counts = np.random.default_rng(list(f"{name} {model} {seed}".encode())), np.unique(pool), []
    n, m = len(mixed) // 2, len(mixed) - len(mixed) // 2
    for _ in range(SPLITS):
        rng.shuffle(mixed)
        calibration = Calibration.fit(mixed[:n], tie_rtol=0)
        counts.append([calibration.threshold(alpha).flag(mixed[n:]).sum() for alpha in ALPHAS])
    for alpha, count in zip(ALPHAS, np.transpose(counts), strict=True):
        k = calibration.threshold(alpha).k
        law = betabinom(m, k, n + 1 - k)
        edges = np.unique(law.ppf(np.arange(1, 20) / 20))  # about twenty cells of nearly equal probability
        expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * SPLITS
        p = chisquare(np.bincount(np.searchsorted(edges, count), minlength=len(expected)), expected).pvalue
        row = {"set": name, "model": model, "seed": seed, "alpha": alpha, "trained": len(trained), "pool": len(pool)}
        row |= {"n": n, "m": m, "k": k, "rate": count.mean() / m, "law_rate": k / (n + 1), "sd": count.std() / m}
        row |= {"law_sd": law.std() / m, "p": p, "percentile_rate": (pool > np.quantile(trained, 1 - alpha)).mean()}
        yield row


def main(only: list[str], seeds: list[int], output: str) -> None:
    """Write one row for each set, model, seed and alpha, and print means and extremes over seeds."""
    table: list[dict[str, object]] = []
    print("| set | model | alpha | rate (law) | sd (law) | smallest p | percentile recipe |\n" + "|---" * 7 + "|")
    for name in only:
        for model in ("dense autoencoder", "isolation forest"):
            runs = [row for seed in seeds for row in cells(name, model, seed)]
            table += runs
            for alpha in ALPHAS:
                same = [list(row.values())[-6:] for row in runs if row["alpha"] == alpha]
                (rate, law_rate, sd, law_sd, *_), worst, most = np.mean(same, 0), np.min(same, 0), np.max(same, 0)
                shown = f"| {rate:.2%} ({law_rate:.2%}) | {sd:.2%} ({law_sd:.2%}) | {worst[4]:.2g} |"
                print(f"| {name} | {model} | {alpha:g} {shown} {worst[5]:.1%} to {most[5]:.1%} |", flush=True)
    Path(output).write_text("".join(",".join(map(str, v)) + "\n" for v in [table[0], *(row.values() for row in table)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[*NORMAL, "2_annthyroid", "25_musk", "32_shuttle"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", default="docs/results/false-alarm-law.csv")
    main(**vars(parser.parse_args()))
