"""Memory of scoring a long series in overlapping windows, in multiples of the series.

Peak resident memory of a process that loads a saved scorer and judges every step of a series of 2 000 000 x 8
float32 (61 MiB) in windows of 64 with stride 1, above a process that has only imported deepad (and with it torch and
Lightning).

    python scripts/benchmark_memory.py
"""

import argparse
import subprocess
import sys
import tempfile

import numpy as np
import pytorch_lightning as pl

from deepad import Scorer
from deepad.data import Series
from deepad.detectors import DenseAutoencoder

WINDOW, CHANNELS, MIB = 64, 8, 1 << 20
PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"  # KiB


def waves(steps: int) -> np.ndarray:
    """Sines of several periods with noise (steps, CHANNELS), made in parts: no more memory than to have it."""
    rng, x = np.random.default_rng(0), np.empty((steps, CHANNELS), np.float32)
    for start in range(0, steps, 10_000):
        t = np.arange(start, min(start + 10_000, steps))[:, None]
        clean = np.sin(t / (20 + 7 * np.arange(CHANNELS)))
        x[start : start + 10_000] = clean + 0.1 * rng.normal(size=clean.shape)
    return x


def peak(*command: str) -> float:
    """Peak resident memory in MiB that a fresh process of Python reports."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) / 1024


def main(steps: int, child: str | None) -> None:
    """Print the peaks and their ratio; as a child, score and print the peak."""
    if child:
        verdict = Scorer.load(child)(waves(steps))
        print(f"{len(verdict)} steps, {verdict.unscored.sum()} without a score")
        exec(PEAK)
        return
    data = Series(frames=waves(20_000), window_size=WINDOW, fit_until=0.9, batch_size=256)
    detector = DenseAutoencoder(data.shape, hidden_dims=(64,), latent_dim=8)
    with tempfile.TemporaryDirectory() as folder:
        pl.Trainer(max_epochs=1, default_root_dir=folder, logger=False, enable_progress_bar=False).fit(detector, data)
        normal = [stretch.values for stretch in data.stretches("calibration")]
        Scorer.calibrate(detector, normal, steps="last").save(f"{folder}/scorer")
        full = peak(__file__, "--steps", str(steps), "--child", f"{folder}/scorer")
    torch, deepad = (peak("-c", f"{statement}; {PEAK}") for statement in ("import torch", "from deepad import Scorer"))
    size = steps * CHANNELS * 4 / MIB
    print(f"series {size:.0f} MiB; peaks: torch {torch:.0f}, deepad {deepad:.0f}, scoring {full:.0f} MiB")
    print(f"scoring takes {full - deepad:.0f} MiB above deepad = {(full - deepad) / size:.2f} x the series")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    main(**vars(parser.parse_args()))
