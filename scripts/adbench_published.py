"""Do nearest neighbours and isolation forest agree with published values, and PyOD's components, written out here?
AUROC on the tables of ADBench, on the published split: normal rows in the order of the file, the first half trains.
The floor `PCAResidual` (with its defaults) is another score, of which none is published: it stands in its own column.

Published: Livernoche, Jain, Hezaveh, Ravanbakhsh, *On diffusion modeling for anomaly detection*, 2024, the table of
the authors' repository (semi-supervised, mean and standard deviation of five seeds, in percent). They resample sets of
fewer than 1000 rows with replacement before the split, which puts copies of training rows into test: those cannot
agree, and are left out. Sets of more than 50 000 rows are sampled: cover and smtp agree up to the sample. Their
principal components are those of PyOD: distances of a row to the eigenvectors, each over its share of variance, summed
(which depends on the signs of the eigenvectors, and so on the library that found them). That they agree says that the
split is the published one, and nothing of `PCAResidual`.

    DEEPAD_DATA=... python scripts/adbench_published.py
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from deepad.baselines import IsolationForest, KNearestNeighbors, PCAResidual

MOST, LEAST = 50_000, 1000


def split(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows and their labels."""
    with np.load(path) as held:
        x, y = held["X"].astype(np.float64), held["y"].ravel()
    if len(y) > MOST:
        some = np.random.default_rng(seed).choice(len(y), MOST, replace=False)
        x, y = x[some], y[some]
    normal = np.flatnonzero(y == 0)
    half = round(0.5 * len(normal))
    test = np.concatenate([normal[half:], np.flatnonzero(y)])
    return x[normal[:half]], x[test], y[test]


def pyod_components(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The score that PyOD calls PCA, on standardised rows."""
    scaler = StandardScaler().fit(train)
    found = PCA(random_state=0).fit(scaler.transform(train))
    shares = np.maximum(found.explained_variance_ratio_, 1e-12)
    return (cdist(scaler.transform(test), found.components_) / shares).sum(1)


def main(published: str, seeds: list[int], only: list[str]) -> None:
    """Print ours beside theirs, and the largest difference where the split is the same."""
    folder = Path(os.environ["DEEPAD_DATA"], "adbench")
    with open(published) as file:
        rows = [row for row in csv.DictReader(file) if not only or row["set"] in only]
    print("| set | k-NN: ours, published | PCA of PyOD: as here, published | forest: ours (sd), published (sd) |"
          " PCAResidual: ours |\n|---|---|---|---|---|")  # fmt: skip
    gaps: dict[str, list[float]] = {"k-NN": [], "PCA": [], "forest": []}
    for row in rows:
        with np.load(folder / f"{row['set']}.npz") as held:
            n = len(held["y"])
        if n < LEAST:
            continue
        runs = []
        for seed in seeds:
            train, test, y = split(folder / f"{row['set']}.npz", seed)
            ours = [KNearestNeighbors(), IsolationForest(seed=seed), PCAResidual()]
            scores = [model.fit(train).score(test) for model in ours]
            scores.insert(1, pyod_components(train, test))
            runs.append([100 * roc_auc_score(y, score) for score in scores])
        mean, spread = np.mean(runs, 0), np.std(runs, 0)
        for place, name in enumerate(gaps):
            gaps[name] += [abs(mean[place] - float(row[name]))] if n <= MOST else []
        sampled = " (sampled)" if n > MOST else ""
        print(f"| {row['set']}{sampled} | {mean[0]:.2f}, {row['k-NN']} | {mean[1]:.2f}, {row['PCA']} | {mean[2]:.2f} "
              f"({spread[2]:.2f}), {row['forest']} ({row['forest sd']}) | {mean[3]:.2f} |", flush=True)  # fmt: skip
    for name, found in gaps.items():
        label = "PCA of PyOD" if name == "PCA" else name
        print(f"{label}: largest difference {max(found):.2f} points, mean {np.mean(found):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", default="docs/results/adbench-published.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="+", default=[], help="names of sets; all if not given")
    main(**vars(parser.parse_args()))
