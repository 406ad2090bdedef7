"""One configuration of a series on many recordings, each trained and judged by itself: rows, means and pooled rates.

python scripts/many_recordings.py --config configs/skab-lstm.yaml --seeds 0 1 2 $DEEPAD_DATA/skab/valve1/*.csv
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from deepad.fit import FitCLI
from deepad.quiet import quiet_lightning


def judged(config: str, path: str, seed: int) -> list[float]:
    """AUROC, AP, false alarms, normal steps, hits and anomalous steps of one recording."""
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        cli = FitCLI(["--config", config, "--data.path", path, "--run", f"{folder}/run", "--seed_everything", str(seed),
                      "--data.seed", str(seed), "--trainer.enable_progress_bar", "false"])  # fmt: skip
        test = cli.fit_and_finish()["test"]
    at, ranking = test["at_threshold"], test["ranking"]
    anomalies = test["n"] - test["n_unscored"] - test["n_invalid"] - at["n_normal"]
    scores = [np.nan if value is None else value for value in (ranking["auroc"], ranking["average_precision"])]
    return [*scores, at["false_alarms"], at["n_normal"], (at["recall"] or 0) * anomalies, anomalies]


def main(config: str, paths: list[str], seeds: list[int]) -> None:
    """Print a row for each recording (mean over seeds), then what is pooled over all, by seed."""
    found = np.array([[judged(config, path, seed) for seed in seeds] for path in paths])  # (files, seeds, 6)
    print("| recording | AUROC | AP | false alarms | recall |\n|---|---|---|---|---|")
    for path, (auroc, ap, alarms, normal, hits, odd) in zip(paths, found.mean(1), strict=True):
        recall = f"{hits / odd:.3f}" if odd else "-"
        print(f"| {'/'.join(Path(path).parts[-2:])} | {auroc:.3f} | {ap:.3f} | {alarms / normal:.3f} | {recall} |")
    alarms, normal, hits, odd = found[:, :, 2:].sum(0).T
    pooled = {"F1": 2 * hits / (hits + odd + alarms), "false-alarm rate": alarms / normal, "missed": 1 - hits / odd,
              "mean AUROC": np.nanmean(found[:, :, 0], 0), "mean AP": np.nanmean(found[:, :, 1], 0)}  # fmt: skip
    print(f"\npooled over {len(paths)} recordings, mean over {len(seeds)} seeds (range):")
    for name, values in pooled.items():
        print(f"{name} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="FILE")
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    main(**vars(parser.parse_args()))
